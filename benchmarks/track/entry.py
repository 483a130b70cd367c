"""What an entry of the track is: a file of `entries/` with a name, a start and a chain.

A file has `TITLE`, `START` (the settings around which the search looks) and
`matrices(s, dims)`, the optimizer of the matrices. All else has Adam with a rate of its own, or
with the matrices' rate if the file has `ONE_RATE = True`.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

import muon_optax
from muon_optax import PolarMethod, partition_matrices, scale_by_muon, scale_by_shape
from muon_optax.dims import Dims

FOLDER = Path(__file__).parent / "entries"
# The modules here that a run's numbers depend on.
CODE = ("entry", "finetuning", "gpt", "images", "lora", "task", "tasks", "texts", "training")
WARM_UP, END = 0.05, 0.05  # of the steps; of the peak rate


class Settings(NamedTuple):
    """What is tuned, numbers in a file. `matrices` gets the rates as schedules of the step.

    Attributes:
      rate: The peak learning rate of the matrices.
      rest_rate: The peak learning rate of all else.
      decay: Weight decay of the matrices, as a multiple of their rate.
      momentum: β of the matrices' momentum.
    """

    rate: Any
    rest_rate: Any = 0.03
    decay: Any = 0.15
    momentum: Any = 0.87


class Entry(NamedTuple):
    """A file of `entries/`."""

    name: str
    title: str
    start: Settings
    matrices: Callable[[Settings, Dims], optax.GradientTransformation]
    one_rate: bool


def names() -> list[str]:
    """Every entry's."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@cache
def find(name: str) -> Entry:
    """The entry of this name."""
    if name not in names():
        raise ValueError(f"entry {name!r} does not exist; use one of {', '.join(names())}")
    module = import_module(f"benchmarks.track.entries.{name}")
    return Entry(
        name=name,
        title=module.TITLE,
        start=module.START,
        matrices=module.matrices,
        one_rate=getattr(module, "ONE_RATE", False),
    )


@cache
def version(of_entry: str) -> str:
    """A checksum of all that computes a run: a run of other code is not remembered."""
    here, package = Path(__file__).parent, Path(muon_optax.__file__).parent
    sources = [here / f"{name}.py" for name in CODE]
    sources += [here / "entries" / f"{of_entry}.py", *sorted((here / "variants").glob("*.py"))]
    sources += sorted(package.rglob("*.py"))
    found = hashlib.sha256(f"jax {jax.__version__}, optax {optax.__version__}".encode())
    for path in sources:
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def optimizer(
    entry: Entry, settings: Settings, steps: ArrayLike
) -> optax.GradientTransformation:
    """The whole optimizer of an entry; settings and number of steps may be traced."""
    rest_rate = settings.rate if entry.one_rate else settings.rest_rate
    rest = optax.adam(schedule(rest_rate, steps), b2=0.95)
    scheduled = settings._replace(rate=schedule(settings.rate, steps))
    whole = partition_matrices(lambda dims: entry.matrices(scheduled, dims), rest)
    return optax.chain(optax.clip_by_global_norm(1.0), whole)


def schedule(peak: ArrayLike, steps: ArrayLike) -> optax.Schedule:
    """A warm-up, then a straight line to a small rate."""

    def rate(step: ArrayLike) -> ArrayLike:
        done = (step + 1) / steps
        rises, falls = done / WARM_UP, 1 - (1 - END) * (done - WARM_UP) / (1 - WARM_UP)
        return peak * jnp.minimum(rises, falls)

    return rate


def muon(
    s: Settings,
    dims: Dims,
    method: PolarMethod | str = "jordan",
    *after: optax.GradientTransformation,
    shape_scaling: str = "jordan",
    nesterov: bool = True,
) -> optax.GradientTransformation:
    """Muon's chain, with what else is to follow the polar step."""
    return optax.chain(
        scale_by_muon(method, s.momentum, nesterov=nesterov, dims=dims),
        *after,
        scale_by_shape(shape_scaling, dims=dims),
        optax.add_decayed_weights(s.decay),
        optax.scale_by_learning_rate(s.rate),
    )
