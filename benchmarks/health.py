"""Training runs as `diagnostics` sees them: healthy ones, and some with one thing wrong.

The byte GPT of `examples/train_gpt.py` and the digits of `examples/train_digits.py`, shortened,
at the examples' rates with three seeds; then the first seed again for every fault of `FAULTS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState
from train_gpt import Config, Curve, Run, data, schedule

from benchmarks.gpt import SMALL
from benchmarks.record import RESULTS, load, provenance, save
from benchmarks.text import markdown, mean, short, written
from muon_optax import NewtonSchulz, muon
from muon_optax.coefficients import CANS
from muon_optax.diagnostics import MEASURES, History

EVERY = 10
WARM_UP = 60  # steps that ranges leave out: three times 1/(1 - β)
HEALTHY = "healthy"
SHOWN = ("alignment", "momentum_stable_rank", "gradient_cosine")  # in the picture


class Case(NamedTuple):
    """What is not as in the example: Muon's rate, its options, or the gradient of a leaf."""

    rate: float = 1.0
    options: Mapping[str, Any] = MappingProxyType({})
    cut: bool = False


FAULTS = {
    "learning rate × 10": Case(rate=10.0),
    "no momentum: `beta=0`": Case(options={"beta": 0.0}),
    "`beta=0.999`": Case(options={"beta": 0.999}),
    "one step of Newton-Schulz": Case(options={"method": NewtonSchulz("jordan", 1)}),
    "five steps of CANS, of twelve": Case(options={"method": NewtonSchulz(CANS, 5)}),
    "twelve in bfloat16, refused": Case(
        options={
            "method": NewtonSchulz(CANS, 12, compute_dtype="bfloat16", allow_unstable=True)
        }
    ),
    "a matrix without gradient": Case(cut=True),
}


def without_gradient(leaf: str) -> optax.GradientTransformation:
    """Zeros for the gradient of one leaf."""

    def cut(path: Any, g: jax.Array) -> jax.Array:
        return 0 * g if leaf in jax.tree_util.keystr(path, simple=True, separator="/") else g

    return optax.stateless(lambda updates, _: jax.tree.map_with_path(cut, updates))


def train_gpt(case: Case, seed: int, smoke: bool) -> tuple[History, float]:
    """The records of one run, and its held-out loss at the end."""
    config = Config(steps=120, eval_every=EVERY)
    if smoke:
        config = replace(config, **SMALL)
    text, held_out = data(config)
    options = {"weight_decay": 0.05, "record_every": config.eval_every, **case.options}
    rest = optax.adam(schedule(config, config.rest_lr), b2=0.95)
    peak = schedule(config, case.rate * config.muon_lr)
    tx = optax.chain(optax.clip_by_global_norm(1.0), muon(peak, fallback=rest, **options))
    tx = optax.chain(without_gradient(CUT["byte GPT"]), tx) if case.cut else tx
    run = Run(config, tx, Curve("muon", case.rate * config.muon_lr, seed), text)
    history = History()
    for _ in range(config.steps // config.eval_every):
        run.advance(held_out)
        history.add(run.state)
    return history, run.curve.loss[-1]


def train_on_digits(case: Case, seed: int, smoke: bool) -> tuple[History, float]:
    """The records of one run, and its held-out loss at the end."""
    import train_digits  # with scikit-learn, which tables do without
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    config = train_digits.Config(epochs=6)
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    parts = train_test_split(images, digits.target, test_size=0.25, random_state=0)
    images, held_out, labels, held_out_labels = map(jnp.asarray, parts)
    steps = 2 if smoke else config.epochs * (len(images) // config.batch)
    tx = muon(
        optax.cosine_decay_schedule(case.rate * config.muon_lr, steps),
        adam_learning_rate=optax.cosine_decay_schedule(config.adamw_lr, steps),
        record_every=EVERY,
        **case.options,
    )
    tx = optax.chain(without_gradient(CUT["digits"]), tx) if case.cut else tx
    model = train_digits.ConvNet()
    params = model.init(jax.random.key(seed), images[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    rng, history = np.random.default_rng(seed), History()
    for _ in range(steps):
        batch = rng.choice(len(images), config.batch, replace=False)
        state = train_digits.train_step(state, images[batch], labels[batch])
        history.add(state.opt_state)
    loss, _ = train_digits.loss_and_accuracy(state.params, held_out, held_out_labels)
    return history, float(loss)


TASKS: dict[str, Callable[[Case, int, bool], tuple[History, float]]] = {
    "byte GPT": train_gpt,
    "digits": train_on_digits,
}
CUT = {"byte GPT": "blocks/0/down/kernel", "digits": "Conv_1/kernel"}


def main(smoke: bool = False) -> None:
    """Train all of them, at the smallest one on the digits; keep every record."""
    made_by = provenance()
    seeds = (0,) if smoke else (0, 1, 2)
    runs = []
    for task, train in [*TASKS.items()][-1 if smoke else 0 :]:
        cases = [(HEALTHY, Case(), seed) for seed in seeds]
        cases += [(name, case, 0) for name, case in FAULTS.items()]
        for name, case, seed in cases[-1:] if smoke else cases:
            history, loss = train(case, seed, smoke)
            print(f"{task}, seed {seed}, {name}: loss {loss:.3f}", flush=True)
            records = jax.tree.map(lambda x: float(short(x)), history.values)
            about = {"task": task, "case": name, "seed": seed, "loss": round(loss, 4)}
            runs.append({**about, "steps": history.steps, "values": records})
    if not smoke:
        save("health", made_by, {"runs": runs})


SEE = "see `operator_norm`"
ADVICE = {  # measure → what a value below or above the healthy range says, and what to do
    "alignment": (
        "Take more steps if the [cosine](#which-leaves-need-more-steps) is below 0.9",
        "Up to 1: no action, the update is nearer to the exact polar factor. Above 1: some "
        f"singular values are above 1, {SEE}",
    ),
    "polar_error": (
        "No action: the update is nearer to the exact polar factor",
        "Up to 1: no action, one tiny singular value of M is enough. Above 1: a direction "
        'has the wrong sign. Remove `allow_unstable`, or use `compute_dtype="float32"`',
    ),
    "orthogonality_error": (
        "No action: the update is nearer to the exact polar factor",
        f"Near 1: too few steps, or no gradient. Above 1: {SEE}",
    ),
    "operator_norm": (
        "0: no gradient arrives. Look for `stop_gradient`, masks and unused layers. Above 0: "
        "no action, 1 is exact",
        "The polynomial overshoots. Take all steps of the method, or use another of `METHODS`",
    ),
    "update_rms": (
        f"0: {SEE}. Above 0: too few steps, or matrices of other shapes",
        f"Up to 1/√max(m, n): no action, the exact polar factor has this value. Above: {SEE}",
    ),
    "momentum_stable_rank": (
        f"0: {SEE}. Above 0: no conclusion, `beta` may be too low or too high",
        "No action: gradient noise has many directions",
    ),
    "gradient_cosine": (
        f"Always 0: {SEE}. Otherwise old gradients dominate M. Lower `beta` or learning rate",
        "M is the gradient of this step. Use a higher `beta`, such as 0.95",
    ),
}


def numbers(record: dict, task: str, case: str, measure: str) -> np.ndarray:
    """Every value after the warm-up: of all seeds, steps and matrices, or of the leaf cut."""
    leaves = [CUT[task]] if case in FAULTS and FAULTS[case].cut else None
    return np.array(
        [
            x
            for run in record["runs"]
            if (run["task"], run["case"]) == (task, case)
            for leaf in leaves or run["values"]
            for step, x in zip(run["steps"], run["values"][leaf][measure])
            if step >= WARM_UP
        ]
    )


def range_table(machine: str) -> str:
    """What healthy runs show, and what to do about any other value."""
    record = load(machine, "health")
    rows = []
    for measure in MEASURES:
        found = [numbers(record, task, HEALTHY, measure) for task in TASKS]
        ranges = [f"{short(x.min())} to {short(x.max())}" for x in found]
        rows.append([f"`{measure}`", *ranges, *ADVICE[measure]])
    header = ["", *(f"healthy {task}" for task in TASKS), "below the range", "above the range"]
    return written(record, header, rows, left=len(header))


def middle(values: np.ndarray, healthy: np.ndarray) -> str:
    """The range of the middle 80 %, an end bold where it is outside the healthy range."""
    low, high = np.quantile(values, (0.1, 0.9))
    ends = {short(low): low < healthy.min()}
    ends[short(high)] = ends.get(short(high), False) or high > healthy.max()
    return " to ".join(f"**{end}**" if outside else end for end, outside in ends.items())


def fault_table(machine: str) -> str:
    """The middle 80 % of values of every run; bold where they leave the healthy range."""
    record = load(machine, "health")
    rows = []
    for task in TASKS:
        for case in (HEALTHY, *FAULTS):
            ends = [r["loss"] for r in record["runs"] if (r["task"], r["case"]) == (task, case)]
            loss = f"{ends[0]:.2f}" if len(ends) == 1 else mean(ends, 2)
            cells = []
            for measure in MEASURES:
                healthy = numbers(record, task, HEALTHY, measure)
                cells.append(middle(numbers(record, task, case, measure), healthy))
            rows.append([task if case == HEALTHY else "", case, loss, *cells])
    return markdown(["", "run", "loss", *(f"`{name}`" for name in MEASURES)], rows, left=2)


def draw(machine: str) -> None:
    """What `History.plot` shows of a byte GPT whose `beta` is too high."""
    record, task = load(machine, "health"), "byte GPT"
    (run,) = (r for r in record["runs"] if (r["task"], r["case"]) == (task, "`beta=0.999`"))
    healthy = {m: numbers(record, task, HEALTHY, m) for m in SHOWN}
    healthy = {m: (float(x.min()), float(x.max())) for m, x in healthy.items()}
    figure = History(run["steps"], run["values"]).plot(SHOWN, healthy)
    figure.suptitle("With beta=0.999 the momentum points elsewhere than the gradient")
    figure.savefig(RESULTS / machine / "health.png", dpi=130)


TABLES: dict[str, Callable[[str], str]] = {"health": range_table, "health_faults": fault_table}
