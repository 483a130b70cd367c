"""Times estimated by the compiler of a device that is not here, in a separate process.

The compiler may take minutes, but the process can be stopped. The process has its own settings,
which do not affect the caller.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import jax

from muon_optax.comparison._cases import Case
from muon_optax.comparison._comparison import Time
from muon_optax.comparison._contenders import find_contenders
from muon_optax.comparison._measure import Say
from muon_optax.comparison._table import ESTIMATED
from muon_optax.estimates._compile import size_in_bytes
from muon_optax.estimates._estimate import Estimate, estimate
from muon_optax.estimates._targets import TARGETS, MissingCompiler

ELSEWHERE = tuple(name for name, target in TARGETS.items() if target.kind != "cpu")
_PATIENCE_S = 120.0
_TOGETHER = 8  # the most matrices in a program


def estimate_case(case: Case, methods: Sequence[str], target: str, say: Say) -> Iterator[Time]:
    """Yield the estimated time of every method.

    Raises:
      MissingCompiler: If the compiler is missing.
    """
    TARGETS[target].check_installed()
    shape = (min(case.count, _TOGETHER), case.m, case.n)
    for name in methods:
        say(f"{name} on {case} for {target}")
        found = _in_process(name, shape, case.dtype, target)
        given = size_in_bytes(jax.ShapeDtypeStruct(shape, case.dtype))
        yield Time(
            name, case.count, case.m, case.n, case.dtype,
            ms=() if found.seconds is None else (1000 * found.seconds / shape[0],),
            memory=None if found.temp_bytes is None else round(found.temp_bytes / given, 3),
            compile_s=found.compile_s,
            note=found.note or ESTIMATED,
            at_least=found.at_least,
        )  # fmt: skip


def _in_process(name: str, shape: tuple[int, ...], dtype: str, target: str) -> Estimate:
    asked = json.dumps({"name": name, "shape": shape, "dtype": dtype, "target": target})
    command = [sys.executable, "-c", f"from {__name__} import _answer; _answer({asked!r})"]
    settings = os.environ | {"JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_PATIENCE_S, env=settings, text=True
        )
    except subprocess.TimeoutExpired:
        return Estimate(None, None, _PATIENCE_S, f"not compiled in {_PATIENCE_S:g} s")
    if done.returncode:
        raise MissingCompiler(f"\n{done.stderr or 'its compiler was killed'}".splitlines()[-1])
    return Estimate(**json.loads(done.stdout.splitlines()[-1]))


def _answer(asked: str) -> None:
    """Print one estimate as JSON. This function runs in the separate process."""
    question = json.loads(asked)
    (method,) = find_contenders([question["name"]]).values()
    shape = jax.ShapeDtypeStruct(question["shape"], question["dtype"])
    try:
        found = estimate(method.polar, shape, TARGETS[question["target"]])
    except MissingCompiler as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(asdict(found)))
