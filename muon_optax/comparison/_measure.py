"""The measurement of methods on matrices of one shape: time (in turns), memory, accuracy."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muon_optax.comparison._accuracy import decompose, judge
from muon_optax.comparison._cases import Case
from muon_optax.comparison._comparison import Judgement, Time
from muon_optax.comparison._extrapolation import extrapolate
from muon_optax.comparison._timing import current_platform, milliseconds, take_turns
from muon_optax.estimates._compile import compile_program, size_in_bytes
from muon_optax.polar._method import MethodPlan, PolarMethod, batched, check_polars

_TOGETHER = {"cpu": 2e10, "gpu": 5e12, "tpu": 5e12}  # the most operations in a timed call
_GUESSED = 20.0  # a decomposition takes this many times its plan's operations; measured: 10-200
_LARGE = 2**28  # from this m²·n on, smaller matrices are timed first
_LARGEST_JUDGED = 2048  # short side; NumPy's SVD of a larger matrix takes a minute

Say = Callable[[str], None]


def measure_case(
    case: Case, methods: Mapping[str, PolarMethod], say: Say
) -> Iterator[Time | Judgement]:
    """Yield the times of all methods, then their judgements on every leaf.

    After an interruption, yield the times measured so far, then raise the interruption again.
    """
    calls, found, samples, stopped = {}, {}, {}, None
    try:
        for name, method in methods.items():
            say(f"{name} on {case}")
            try:
                found[name], call = _start(case, name, method)
                calls |= {name: call} if call else {}
            except Exception as error:  # raised by the user's own method; the others go on
                note = f"{type(error).__name__}: {error}".splitlines()[0]
                found[name] = _time(case, name, note=note)
        say(f"time on {case}")
        take_turns(calls, samples=samples)
    except KeyboardInterrupt as interruption:
        stopped = interruption
    for name, time in found.items():
        if taken := samples.get(name):
            ms = milliseconds(taken, _count_together(case, methods[name]))
            yield replace(time, ms=tuple(ms))
        elif name not in calls:
            yield time
    if stopped:
        raise stopped
    if case.m <= _LARGEST_JUDGED:
        say(f"accuracy on {case}")
        yield from _judge(case, {name: methods[name] for name in calls})


def _start(case: Case, name: str, method: PolarMethod) -> tuple[Time, Callable | None]:
    """Return a `Time` without samples and the call to sample, or an estimate and None."""

    def prepare(m: int, n: int) -> Callable:
        return _prepare(Case(1, m, n, case.dtype), method)[0]

    is_guess = _plan(case, method).is_guess
    if case.m**2 * case.n >= _LARGE * (1 if is_guess else 16) and (
        found := extrapolate(prepare, case.m, case.n)
    ):
        seconds, note = found
        return _time(case, name, ms=tuple(milliseconds([seconds])), note=note), None
    call, costs = _prepare(case, method)
    return _time(case, name, **costs), call


def _time(case: Case, name: str, ms: tuple[float, ...] = (), **rest: Any) -> Time:
    return Time(name, case.count, case.m, case.n, case.dtype, ms, **rest)


def _prepare(case: Case, method: PolarMethod) -> tuple[Callable, dict]:
    """Return a compiled call on matrices of the case, and the costs of its program."""
    x = jnp.asarray(case.make(_count_together(case, method)))
    polar = jax.eval_shape(method.polar, x)
    check_polars(method, [x], [polar])
    if polar.dtype != x.dtype:
        raise ValueError(f"polar returned {polar.dtype} for {x.dtype}; return the same dtype")
    program, costs = compile_program(method.polar, x)
    memory = round(costs["temp_bytes"] / size_in_bytes(x), 3)
    return partial(program, x), {"memory": memory, "compile_s": costs["compile_s"]}


def _count_together(case: Case, method: PolarMethod) -> int:
    """Return how many matrices to time in one call."""
    plan = _plan(case, method)
    flops = plan.flops * (_GUESSED if plan.is_guess else 1.0)
    return max(1, min(case.count, int(_TOGETHER[current_platform()] / flops)))


def _plan(case: Case, method: PolarMethod) -> MethodPlan:
    return batched(method).plan(case.m, case.n, case.dtype, current_platform())


def _judge(case: Case, methods: Mapping[str, PolarMethod]) -> Iterator[Judgement]:
    """Compare every method with the SVD in float64, on some matrices of every leaf."""
    if not (judged := [*case.judged()]):
        return
    leaves, matrices = zip(*judged)
    x = jnp.asarray(np.stack(matrices))
    exact = [decompose(matrix) for matrix in matrices]
    for name, method in methods.items():
        polars = np.asarray(jax.jit(method.polar)(x))
        for leaf, reference, o in zip(leaves, exact, polars):
            yield Judgement(name, leaf, case.m, case.n, case.dtype, **judge(reference, o))
