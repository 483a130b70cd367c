"""The forms in which a schedule can be given: a name, a family, a method or plain numbers."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from muon_optax._checks import describe, nearest
from muon_optax.coefficients import FAMILIES, FAST, POLAR_EXPRESS, Coefficients, Schedule

Norm = Literal["frobenius", "schatten4"]
Numbers = Sequence[float] | Sequence[Sequence[float]] | np.ndarray  # a stage, or rows of them


@runtime_checkable
class HasSchedule(Protocol):
    """A method with a schedule, such as a `NewtonSchulz`."""

    @property
    def schedule(self) -> Schedule: ...


ScheduleLike = str | Coefficients | HasSchedule | Numbers


class Preset(NamedTuple):
    """The first arguments of the `NewtonSchulz` that a name in `METHODS` stands for."""

    coefficients: Coefficients
    steps: int | None = None
    normalize: Norm = "frobenius"

    @property
    def schedule(self) -> Schedule:
        return self.coefficients.schedule(self.steps)


PRESETS = {name: Preset(family) for name, family in FAMILIES.items()} | {
    "fast": Preset(FAST, normalize="schatten4"),
    "near_exact": Preset(POLAR_EXPRESS, 8, "schatten4"),
}


def find_family(family: Coefficients | str | Numbers) -> Coefficients:
    """Return the family with this name, or make one from plain numbers.

    The last row of the numbers repeats.

    >>> find_family("jordan").stages == find_family([3.4445, -4.775, 2.0315]).stages
    True
    """
    if isinstance(family, Coefficients):
        return family
    if isinstance(family, str) and family in FAMILIES:
        return FAMILIES[family]
    if not isinstance(family, tuple | list | np.ndarray):
        raise ValueError(
            f"unknown family {describe(family)}; use one of {sorted(FAMILIES)}; or "
            "taylor(kappa), minimax(steps, lower) or Coefficients(...) from "
            "muon_optax.coefficients; or numbers, such as "
            f"(3.4445, -4.775, 2.0315){nearest(family, FAMILIES)}"
        )
    rows: Any = family
    if np.ndim(rows[:1]) == 1:  # one stage
        return Coefficients("", (rows,))
    return Coefficients("", rows, default_steps=len(rows))


def find_preset(schedule: ScheduleLike, others: tuple[str, ...] = ()) -> Preset:
    """Return the family, the steps and the normalization of a schedule.

    `others` are further names that the error should list.

    >>> find_preset("polar_express:8").steps
    8
    """
    if isinstance(schedule, str):
        name, colon, steps = schedule.partition(":")
        if name in PRESETS and (not colon or steps.isdecimal()):
            return PRESETS[name]._replace(steps=int(steps)) if steps else PRESETS[name]
        names = sorted([*PRESETS, *others])
        raise ValueError(
            f"unknown name {schedule!r}; use one of {names}, optionally with a number of "
            f"steps, as in 'polar_express:8'{nearest(name, names)}"
        )
    if isinstance(schedule, Coefficients) or not isinstance(schedule, HasSchedule):
        return Preset(find_family(schedule))
    family = find_family(getattr(schedule, "coefficients", schedule.schedule))
    return Preset(family, len(schedule.schedule), getattr(schedule, "normalize", "frobenius"))


def find_stages(schedule: ScheduleLike) -> Schedule:
    """Return the stages as floats, in order of application. `()` has no stages."""
    is_empty = isinstance(schedule, tuple | list) and not schedule
    return () if is_empty else find_preset(schedule).schedule
