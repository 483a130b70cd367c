"""Experiments (a) and (b): the byte GPT under every method, by step and by wall-clock.

Only the optimizer of the weight matrices differs; embeddings, head and norms have AdamW at
one rate. Each method's learning rate is tuned on seed 0 by halving and doubling until the best
is between two worse ones; three seeds follow at the best rate. In a second panel every
update is rescaled to one root mean square, and all have the rate that is best for the SVD.
Weight decay is 0.05 times the rate, so a method that needs a higher rate also decays more; some
methods are tuned again without it.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import jax
import optax
from curves import Curve
from train_gpt import Config, Run, data, is_matrix, schedule

from benchmarks.convergence.methods import MatchedRMS, Normalized
from benchmarks.pool import run_all
from benchmarks.search import best_power
from benchmarks.store import remembered
from muon_optax import METHODS, SVD, NewtonSchulz, PolarMethod, muon

SMALL = Config(width=64, layers=2, context=64, steps=400, eval_every=20)
SEEDS = (0, 1, 2)

METHODS_BY_NAME: dict[str, PolarMethod] = {
    "q=0": Normalized(),
    **{
        f"κ={kappa} q={q}": NewtonSchulz(f"taylor{kappa}", q)
        for kappa in (1, 2, 3, 4)
        for q in (1, 2, 3, 4, 5)
    },
    "Jordan q=5": METHODS["jordan"],
    "Polar Express q=8": NewtonSchulz("polar_express", 8),
    "SVD": SVD(),
}
BASELINES = {"SGD, momentum": 0.08, "AdamW": 0.0025}  # and the first rate to try
NAMES = (*METHODS_BY_NAME, *BASELINES)
WITHOUT_DECAY = ("q=0", "κ=2 q=1", "κ=2 q=3", "κ=2 q=5", "Jordan q=5", "SVD", *BASELINES)
DECAY = 0.05


@dataclass(frozen=True)
class Job:
    """One training run: a method by name, and what it is run with."""

    name: str
    learning_rate: float
    seed: int
    matched: bool = False
    decay: float = DECAY


def optimizer(
    config: Config, method: PolarMethod | str, rate: float, decay: float = DECAY, **options
):
    """The matrices' optimizer at a rate; AdamW for the rest; clipped, as in the example."""
    rest = optax.adam(schedule(config, config.rest_lr), b2=0.95)
    peak = schedule(config, rate)
    if method == "AdamW":
        matrices = optax.adamw(peak, b2=0.95, weight_decay=decay)
    elif method == "SGD, momentum":
        matrices = optax.chain(
            optax.trace(0.95, nesterov=True),
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(peak),
        )
    else:
        whole = muon(peak, method, weight_decay=decay, fallback=rest, **options)
        return optax.chain(optax.clip_by_global_norm(1.0), whole)
    parts = optax.partition({True: matrices, False: rest}, is_matrix)
    return optax.chain(optax.clip_by_global_norm(1.0), parts)


def first_guess(method: PolarMethod | str) -> float:
    """The power of two times 0.02 at which an update has about the SVD's size."""
    if isinstance(method, str):
        return BASELINES[method]
    y = method.polar(jax.random.normal(jax.random.key(0), (64, 64)))
    return 0.02 * 2.0 ** round(math.log2(8.0 / float(jax.numpy.linalg.norm(y))))


@lru_cache
def texts(config: Config):
    """The data, read once a process."""
    return data(config)


def train(config: Config, job: Job, method: PolarMethod | str) -> dict:
    """The loss curve of one run, from memory if it was run before."""
    key = {"config": _plain(config), "job": asdict(job), "method": repr(method)}

    def compute() -> dict:
        text, held_out = texts(config)
        curve = Curve(job.name, job.learning_rate, job.seed)
        chosen = MatchedRMS(method) if job.matched else method
        tx = optimizer(config, chosen, job.learning_rate, job.decay)
        run = Run(config, tx, curve, text)
        while not curve.step or curve.step[-1] < config.steps:
            run.advance(held_out)
        return curve.as_json()

    return remembered(key, compute)


def study(
    config: Config, name: str, method: PolarMethod | str, guess: float, decay: float = DECAY
) -> dict:
    """A method's sweep on the first seed, by powers of two, and every seed at its best rate."""

    def run(k: int) -> dict:
        return train(config, Job(name, guess * 2.0**k, SEEDS[0], decay=decay), method)

    best, tried = best_power(lambda k: run(k)["loss"][-1])
    rate = guess * 2.0**best
    jobs = [Job(name, rate, seed, decay=decay) for seed in SEEDS]
    seeds = [train(config, job, method) for job in jobs]
    return {"best_rate": rate, "sweep": [run(k) for k in tried], "seeds": seeds}


def matched(config: Config, name: str, method: PolarMethod, rate: float) -> list[dict]:
    """Every seed at a given rate, each update rescaled to the SVD's root mean square."""
    return [train(config, Job(name, rate, seed, matched=True), method) for seed in SEEDS]


def measure(config: Config = SMALL) -> dict:
    """Every method tuned and with its seeds; at one size of update; and without decay."""

    def asked(name: str) -> tuple[Config, str, PolarMethod | str, float]:
        method = METHODS_BY_NAME.get(name, name)
        return config, name, method, first_guess(method)

    studies = run_all({name: (study, asked(name)) for name in NAMES}, "training")
    rate = studies["SVD"]["best_rate"]
    calls = {name: (matched, (config, name, m, rate)) for name, m in METHODS_BY_NAME.items()}
    same_size = run_all(calls, "training, one size of update")
    calls = {name: (study, (*asked(name), 0.0)) for name in WITHOUT_DECAY}
    no_decay = run_all(calls, "training, without decay")
    return {
        "steps": config.steps,
        "studies": studies,
        "matched": same_size,
        "without_decay": no_decay,
    }


def _plain(config: Config) -> dict:
    kept = ("steps", "width", "layers", "heads", "context", "batch", "rest_lr", "eval_every")
    return {name: getattr(config, name) for name in kept}
