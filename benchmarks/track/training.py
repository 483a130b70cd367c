"""One run of an entry on a task: the loss at every evaluation, and what it cost."""

import math
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks.store import remembered
from benchmarks.track import entry
from benchmarks.track.entry import Settings
from benchmarks.track.tasks import task
from muon_optax.comparison._timing import take_turns


class Job(NamedTuple):
    """A run by names and numbers, as workers and files know it."""

    task: str
    entry: str
    settings: Settings
    seed: int
    steps: int
    judged: str = "tuning"  # or "test"
    large: bool = False


class Program(NamedTuple):
    """What is compiled once for every task and entry: settings and steps are arguments."""

    begin: Callable[..., Any]
    advance: Callable[..., Any]
    judge: Callable[..., Any]


@cache
def program(name: str, of_entry: str, large: bool) -> Program:
    """The functions of a run, compiled at their first call."""
    on, of = task(name, large), entry.find(of_entry)

    @jax.jit
    def begin(params: Any, settings: Settings, steps: int) -> Any:
        return params, entry.optimizer(of, settings, steps).init(params)

    def advance(carry: Any, constants: Any, batches: Any, settings: Settings, steps: int):
        tx = entry.optimizer(of, settings, steps)

        def step(carry: Any, batch: Any):
            params, state = carry
            grads = jax.grad(on.loss)(params, constants, batch)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, batches)[0]

    return Program(begin, jax.jit(advance, donate_argnums=0), jax.jit(on.loss))


def train(job: Job) -> dict[str, Any]:
    """Losses by evaluation and seconds of the processor, from memory if it was run before."""
    key = job._asdict() | {"settings": list(job.settings)}
    key |= {
        "version": entry.version(job.entry),
        "data": task(job.task, job.large).fingerprint(),
    }
    return remembered(key, lambda: run(job))


def run(job: Job) -> dict[str, Any]:
    """Train; a run whose loss is not finite is over."""
    began, losses = time.process_time(), []
    on, judge = task(job.task, job.large), program(job.task, job.entry, job.large).judge
    start, constants = on.init(job.seed)
    for params in follow(job, start, constants):
        loss = float(judge(params, constants, getattr(on, job.judged)))
        if not math.isfinite(loss):
            break
        losses.append(round(loss, 5))
    diverged = len(losses) < job.steps // on.eval_every
    spent = round(time.process_time() - began, 2)
    return {"loss": losses, "diverged": diverged, "cpu_s": spent}


def follow(job: Job, params: Any, constants: Any) -> Iterator[Any]:
    """The parameters at every evaluation; those of the one before are donated to it."""
    on, compiled = task(job.task, job.large), program(job.task, job.entry, job.large)
    rest, every = (job.settings, job.steps), min(on.eval_every, job.steps)
    carry, rng = compiled.begin(params, *rest), np.random.default_rng(job.seed)
    for _ in range(job.steps // every):
        carry = compiled.advance(carry, constants, on.draw(rng, every), *rest)
        yield carry[0]


def time_steps(job: Job, reference: str) -> dict[str, list[float]]:
    """Seconds of a step of an entry and of another, in turns."""
    calls = {"it": _stepper(job), reference: _stepper(job._replace(entry=reference))}
    every = task(job.task, job.large).eval_every
    return {name: [s / every for s in samples] for name, samples in take_turns(calls).items()}


def _stepper(job: Job) -> Callable[[], Any]:
    """A call that trains from one evaluation to the next."""
    on, compiled = task(job.task, job.large), program(job.task, job.entry, job.large)
    params, constants = on.init(job.seed)
    rest = (job.settings, job.steps)
    batches = on.draw(np.random.default_rng(job.seed), on.eval_every)
    carry = compiled.begin(params, *rest)

    def advance() -> Any:
        nonlocal carry
        carry = compiled.advance(carry, constants, batches, *rest)
        return carry

    return advance


def final(found: dict[str, Any]) -> float:
    """The last loss of a run; infinity if it diverged."""
    return math.inf if found["diverged"] else found["loss"][-1]
