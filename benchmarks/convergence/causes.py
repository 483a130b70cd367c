"""Experiment (f): does inexactness help Muon beyond the learning rate, and which part of it?

The byte GPT of the README. By an SVD in place of the products one property of Jordan's update
is changed at a time, and the learning rate is tuned for each: the small singular values that it
leaves small, the wobble of the large ones, and the root mean square of the whole.
"""

from train_gpt import Config

from benchmarks.convergence.methods import Filled, MatchedRMS, Ramp
from benchmarks.convergence.training import SEEDS, Job, first_guess, study, train
from benchmarks.pool import run_all
from muon_optax import METHODS, SVD, NewtonSchulz, PolarMethod

BYTE_GPT = Config(steps=300, eval_every=20)

JORDAN = METHODS["jordan"]
METHODS_BY_NAME: dict[str, PolarMethod] = {
    "SVD": SVD(),
    "Jordan q=5": JORDAN,
    # Jordan's slope at 0 is 3.4445^5 = 485; where the ramp ends, its map is at 0.88.
    "SVD, small ones left small": Ramp(1 / 485),
    "Jordan, small ones filled": Filled(JORDAN, 3e-3),
    "Jordan, RMS of the SVD": MatchedRMS(JORDAN),
    "Polar Express q=8": NewtonSchulz("polar_express", 8),
    "κ=2 q=5": NewtonSchulz("taylor2", 5),
    "κ=2 q=3": NewtonSchulz("taylor2", 3),
    # The slope of five steps with κ = 2 is 1.875^5 = 23; its map is at 0.79 there.
    "SVD, more left small": Ramp(1 / 23),
}


BETWEEN = 0.02 * 2**0.5  # a rate of the finer grid, between the two best of the sweeps
COMPARED_FINER = ("SVD", "Jordan q=5")


def measure(config: Config = BYTE_GPT) -> dict:
    """Every method's sweep and seeds; and two methods at a rate between."""
    calls = {
        name: (study, (config, name, method, first_guess(method)))
        for name, method in METHODS_BY_NAME.items()
    }
    studies = run_all(calls, "causes")
    jobs = [Job(name, BETWEEN, seed) for name in COMPARED_FINER for seed in SEEDS]
    calls = {job: (train, (config, job, METHODS_BY_NAME[job.name])) for job in jobs}
    runs = run_all(calls, "causes, finer")
    finer = {n: [run for job, run in runs.items() if job.name == n] for n in COMPARED_FINER}
    return {"steps": config.steps, "studies": studies, "between": finer}
