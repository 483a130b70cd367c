"""A training run that changes its optimizer: AdamW first, Muon from the middle on.

Three continuations of one run of AdamW, on the same windows and the same schedule of learning
rates: AdamW itself; Muon with AdamW's moments, by `compat.transfer`; Muon with none.
"""

import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from curves import COLORS, Curve
from train_gpt import Config, Run, data, make_optimizer

from benchmarks.gpt import SMALL
from benchmarks.pictures import begin, keep
from benchmarks.record import RESULTS, folder, load, provenance, save
from benchmarks.text import mean, written
from muon_optax import compat

ARMS = {
    "adamw": "AdamW to the end",
    "carried": "Muon, moments carried over",
    "afresh": "Muon, moments reset",
}
LOOKS = {
    "adamw": {"color": COLORS["adamw"], "ls": ":"},
    "carried": {"color": COLORS["muon"], "ls": "-"},
    "afresh": {"color": COLORS["muon"], "ls": "--"},
}
JUST_AFTER = 40  # steps, in which a spike would show


def continued(run: Run, name: str, middle: int) -> Run:
    """A copy of AdamW's run that goes on under one of `ARMS`."""
    config, begin = run.config, middle if name == "afresh" else 0
    tx = make_optimizer(config, "muon", config.muon_lr, begin)
    other = copy.copy(run) if name == "adamw" else Run(config, tx, run.curve, run.text)
    other.curve = replace(run.curve, optimizer=name, step=[], seconds=[], loss=[])
    other.rng = copy.deepcopy(run.rng)
    other.params, state = jax.tree.map(jnp.copy, (run.params, run.state))
    if name == "adamw":
        other.state = state
    elif name == "carried":
        other.state = compat.transfer(state, like=tx.init(other.params))
    return other


def train(config: Config, seed: int, text: np.ndarray, held_out: jax.Array) -> dict:
    """The first half under AdamW, the second under every arm in turn."""
    middle = config.steps // 2
    tx = make_optimizer(config, "adamw", config.adamw_lr)
    run = Run(config, tx, Curve("adamw", config.adamw_lr, seed), text)
    for _ in range(middle // config.eval_every):
        run.advance(held_out)
    arms = {name: continued(run, name, middle) for name in ARMS}
    for _ in range(middle // config.eval_every):
        for arm in arms.values():
            arm.advance(held_out)
    losses = {name: arm.curve.as_json()["loss"] for name, arm in arms.items()}
    return {"seed": seed, "before": run.curve.as_json()["loss"], **losses}


def main(smoke: bool = False) -> None:
    """Three seeds; keep the losses and their picture."""
    made_by = provenance()
    config = Config(eval_every=2)
    if smoke:
        config = replace(config, **SMALL)
    text, held_out = data(config)
    seeds = [train(config, seed, text, held_out) for seed in ((0,) if smoke else (0, 1, 2))]
    measured = {"steps": config.steps, "eval_every": config.eval_every, "seeds": seeds}
    if not smoke:
        save("switch", made_by, measured)
        draw(folder().name)


def rise(seed: dict, name: str, every: int) -> float:
    """The largest loss just after the switch, over that at the switch."""
    return max(seed[name][: JUST_AFTER // every]) - seed["before"][-1]


def passed(seed: dict, name: str, every: int) -> int:
    """The step after the switch from which on the loss stays below AdamW's."""
    pairs = list(zip(seed[name], seed["adamw"]))
    last = max((i for i, (ours, theirs) in enumerate(pairs) if ours >= theirs), default=-1)
    return every * (last + 2)


def table(machine: str) -> str:
    """What the switch costs at once, and what it brings."""
    record = load(machine, "switch")
    seeds, every = record["seeds"], record["eval_every"]
    rows = [
        [
            label,
            mean([rise(seed, name, every) for seed in seeds], 3),
            "" if name == "adamw" else mean([passed(s, name, every) for s in seeds], 0),
            mean([seed[name][-1] for seed in seeds], 3),
        ]
        for name, label in ARMS.items()
    ]
    middle = record["steps"] // 2
    columns = [
        f"from step {middle} on, 3 seeds: mean (range)",
        f"highest loss within {JUST_AFTER} steps, minus the loss at the switch",
        "steps until it stays below AdamW's",
        f"loss after {record['steps']} steps",
    ]
    return written(record, columns, rows)


def draw(machine: str) -> None:
    """The losses from a little before the switch on: every seed, and the means in bold."""
    record = load(machine, "switch")
    seeds, every, middle = record["seeds"], record["eval_every"], record["steps"] // 2
    below = [passed(seed, "carried", every) for seed in seeds]
    title = "Muon takes over from AdamW and stays below it after {} to {} steps"
    figure, axes = begin(title.format(min(below), max(below)), height=4.2)
    for name, label in ARMS.items():
        start = middle - JUST_AFTER * (name == "adamw")  # the others have nothing before
        whole = np.array([seed["before"] + seed[name] for seed in seeds])
        losses, steps = whole[:, start // every - 1 :], np.arange(start, 2 * middle + 1, every)
        axes.plot(steps, losses.T, **LOOKS[name], lw=0.7, alpha=0.5)
        axes.plot(steps, losses.mean(0), **LOOKS[name], lw=2.5, label=label)
    axes.axvline(middle, color="black", lw=0.8, ls=":")
    axes.set(xlabel="step", ylabel="held-out loss (nats per byte)")
    axes.legend(title="mean (bold) and 3 seeds")
    keep(figure, RESULTS / machine, "switch")
