"""The polynomials of Newton-Schulz: families of odd polynomials of a singular value.

A *stage* `(c0, c1, ..., c_kappa)` is the odd polynomial `x ↦ c0·x + c1·x³ + c2·x⁵ + …`
of degree `2·kappa + 1`. A *schedule* is a tuple of stages, applied first to last.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, cast

from muon_optax._checks import Choices, check_choice, check_integer, describe
from muon_optax._polynomials import Stage, best_odd_polynomial, evaluate, taylor_polynomial

__all__ = ["CANS", "JORDAN", "POLAR_EXPRESS", "YOU", "Schedule", "minimax", "taylor"]

Schedule = tuple[Stage, ...]


@dataclass(frozen=True)
class Coefficients:
    """A named family of odd polynomials, from which `schedule` makes a list of stages.

    A family is frozen and compared by value, so it can be a static argument of `jax.jit`.

    Attributes:
      name: The family's name, as in `FAMILIES`; `""` if it was made from plain numbers.
      stages: The stages in order of application, as Python floats.
      tail: `"repeat"` if the last stage may be repeated, else `"fixed"`.
      source: Where the numbers come from.
      safety: `s ≥ 1`. In a schedule, every stage `p(x)` except the last becomes `p(x/s)`. So a
        singular value that rounding errors push above a stage's interval is not amplified.
      lower: The stages are made for singular values in `[lower, 1]`. 0 means that the source
        names no interval.
      default_steps: The usual number of steps. None means 5 for a single stage that repeats,
        and otherwise the number of stages.

    Raises:
      ValueError: If `stages` is empty, if a coefficient is not finite, if `tail` is unknown, if
        `safety < 1`, if `lower` is outside `[0, 1)`, or if `default_steps` is not positive.

    Example:
      >>> JORDAN.schedule(2)
      ((3.4445, -4.775, 2.0315), (3.4445, -4.775, 2.0315))
    """

    name: str
    stages: Schedule
    tail: Literal["repeat", "fixed"] = "repeat"
    source: str = ""
    safety: float = 1.0
    lower: float = 0.0
    default_steps: int | None = None

    def __post_init__(self):
        # Convert lists (from JSON) and integers to tuples of floats, which are hashable.
        try:
            stages = tuple(tuple(map(float, stage)) for stage in self.stages)
        except (TypeError, ValueError):
            stages = ()
        if not stages or not all(stage and all(map(math.isfinite, stage)) for stage in stages):
            raise ValueError(
                f"stages={describe(self.stages)}; use at least one stage, "
                "each a tuple of at least one finite float, such as ((1.5, -0.5),)"
            )
        object.__setattr__(self, "stages", stages)
        check_choice("tail", self.tail, ("repeat", "fixed"))
        if not self.safety >= 1.0:
            raise ValueError(
                f"safety={self.safety}; use a number ≥ 1; 1 means no safety factor"
            )
        if not 0.0 <= self.lower < 1.0:
            raise ValueError(f"lower={self.lower}; use a number in [0, 1)")
        if self.default_steps is None:
            repeats = self.tail == "repeat" and len(stages) == 1
            object.__setattr__(self, "default_steps", 5 if repeats else len(stages))
        check_integer("default_steps", self.default_steps)

    def __repr__(self) -> str:
        """Return only the name for a family of `FAMILIES`, else also the number of stages."""
        if FAMILIES.get(self.name) == self:
            return f"Coefficients({self.name!r})"
        stages = f"{len(self.stages)} stage{'s' if len(self.stages) > 1 else ''}"
        return f"Coefficients({self.name!r}, {stages})"

    def schedule(self, steps: int | None = None) -> Schedule:
        """Return `steps` stages, with the tail rule and the safety factor applied.

        Args:
          steps: Number of stages, at least 1; None means `default_steps`.

        Returns:
          A tuple of `steps` stages of Python floats.

        Raises:
          ValueError: If `steps` is not a positive integer, or if the tail is `"fixed"` and
            `steps` exceeds the number of stages.

        Example:
          >>> len(POLAR_EXPRESS.schedule()), len(POLAR_EXPRESS.schedule(11))
          (5, 11)
        """
        steps = cast(int, self.default_steps if steps is None else steps)
        check_integer("steps", steps)
        if self.tail == "fixed" and steps > len(self.stages):
            raise ValueError(
                f"steps={steps} exceeds the {len(self.stages)} stages of {self.name!r}, "
                f"whose tail is 'fixed'; use steps≤{len(self.stages)}, or a family whose "
                "last stage repeats, such as POLAR_EXPRESS"
            )
        stages = self.stages[:steps]
        stages += (self.stages[-1],) * (steps - len(stages))
        return (*(_shrink(stage, self.safety) for stage in stages[:-1]), stages[-1])


def taylor(kappa: int) -> Coefficients:
    """Return Kim & Oh's family: the Taylor polynomial of `λ^(-1/2)` at 1, of degree `kappa`.

    `p(λ) = Σ_{s≤κ} C(2s, s)/4^s · (1-λ)^s`. The stage `x ↦ x·p(x²)` has degree `2κ+1` and maps
    [0, 1] monotonically into [0, 1]. Repeated stages converge to 1 with order `κ+1`.

    Args:
      kappa: The degree in `λ = x²`, at least 1. The coefficients and the rounding errors of a
        step grow like `2^kappa`.

    Returns:
      A family with one stage, which repeats.

    Raises:
      ValueError: If `kappa` is not a positive integer.

    Example:
      >>> taylor(2).stages
      ((1.875, -1.25, 0.375),)

    Source: Kim & Oh, arXiv 2601.19156, Definition 2.
    """
    check_integer("kappa", kappa)
    return Coefficients(
        name=f"taylor{kappa}",
        stages=(taylor_polynomial(kappa),),
        tail="repeat",
        source="Kim & Oh 2026, arXiv 2601.19156, Definition 2",
    )


def minimax(
    steps: int,
    lower: float,
    kappa: int = 2,
    *,
    cushion: float = 0.0,
    safety: float = 1.0,
) -> Coefficients:
    """Return the `steps` odd polynomials whose composition maps `[lower, 1]` closest to 1.

    Each stage is the best uniform approximation of 1 on an interval `[l, u]` by an odd
    polynomial of degree `2κ+1`. The image `[l', 2-l']` of `[l, u]` under this stage is the
    interval of the next stage.

    Args:
      steps: Number of stages, at least 1; the last one repeats.
      lower: The smallest singular value that the stages are made for, in [1e-10, 1).
      kappa: Sets the degree of a stage, `2·kappa + 1`. From 1 to 12.
      cushion: Fit each stage on `[max(l, cushion·u), u]` instead of `[l, u]`, then rescale it
        so that the image of `[l, u]` is centred at 1. Use it in low precision: it keeps
        `p(x)/x` from getting close to 0.
      safety: See `Coefficients.safety`. It applies in `schedule`, not in `stages`.

    Returns:
      A family with this `lower` and this `safety`.

    Raises:
      ValueError: If an argument is outside its range.

    Example:
      >>> [round(c, 4) for c in minimax(1, lower=0.1, kappa=1).stages[0]]
      [3.9634, -3.5706]

    Source: Amsel et al., arXiv 2505.16932, Section 3 and Algorithm 1; Grishina et al.,
    arXiv 2506.10935.
    """
    check_integer("steps", steps)
    check_integer("kappa", kappa)
    if kappa > 12:
        raise ValueError(
            f"kappa={kappa}; use at most 12, and more steps if you need more accuracy"
        )
    if not 1e-10 <= lower < 1.0:
        raise ValueError(f"lower={lower}; use a number in [1e-10, 1), such as 1e-3")
    if not 0.0 <= cushion < 1.0:
        raise ValueError(f"cushion={cushion}; use a number in [0, 1); 0 means no cushion")
    stages, low, high = [], lower, 1.0
    for _ in range(steps):
        fitted = max(low, cushion * high)
        stage = best_odd_polynomial(fitted, high, kappa)
        # On [fitted, high] the stage is within 1 ± E. Below `fitted`, it decreases to p(low).
        smallest, largest = evaluate(stage, low), 2.0 - evaluate(stage, fitted)
        centre = (smallest + largest) / 2
        stages.append(tuple(c / centre for c in stage))
        low = min(smallest / centre, 1.0)
        high = 2.0 - low
    return Coefficients(
        name=f"minimax{2 * kappa + 1}",
        stages=tuple(stages),
        tail="repeat",
        source=f"minimax({steps}, lower={lower}, kappa={kappa}, cushion={cushion})",
        safety=safety,
        lower=lower,
    )


def _shrink(stage: Stage, safety: float) -> Stage:
    """Return the stage `x ↦ p(x/safety)`."""
    return tuple(c / safety ** (2 * s + 1) for s, c in enumerate(stage))


JORDAN = Coefficients(
    name="jordan",
    stages=((3.4445, -4.7750, 2.0315),),
    tail="repeat",
    source="Jordan et al. 2024, kellerjordan.github.io/posts/muon: largest slope at 0",
)

YOU = Coefficients(
    name="you",
    stages=(
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    tail="fixed",
    source="You Jiacheng 2025, one triple per step; optax.contrib's preset 'dion'",
)

# The eight published rows; `minimax(8, 1e-3, cushion=0.02407327424182761)` recomputes them. The
# source applies the safety factor to the first seven rows. `schedule` applies it to all but the
# last stage of the schedule.
POLAR_EXPRESS = Coefficients(
    name="polar_express",
    stages=(
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
        (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
        (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
        (1.875, -1.25, 0.375),
    ),
    tail="repeat",
    source="Amsel et al. 2025, arXiv 2505.16932, Algorithm 1 (lower end 1e-3)",
    safety=1.01,
    lower=1e-3,
    default_steps=5,
)

# The public 12-step list; `minimax(9, 8.5e-4, kappa=1)` recomputes its first nine rows.
CANS = Coefficients(
    name="cans",
    stages=(
        (5.182503604966906, -5.178098480082684),
        (2.586120737395915, -0.6479542005271643),
        (2.567364126726186, -0.6454968804392178),
        (2.520560084348265, -0.6393528082067044),
        (2.410759275435182, -0.6248683598710716),
        (2.1883348130094173, -0.5952022073798908),
        (1.8595760874873613, -0.5504490972723968),
        (1.589020160467417, -0.5126569802066718),
        (1.5051653981684994, -0.5007377068751799),
        (1.5, -0.5),
    ),
    tail="repeat",
    source="Grishina et al. 2025, arXiv 2506.10935, the public 12-step list",
    lower=8.5e-4,
    default_steps=12,
)

# The family of METHODS["fast"]: four steps, for a matrix divided by its Schatten-4 norm. The
# cushion and the safety make it stable in bfloat16. It needs this norm and four steps, so it is
# not in FAMILIES.
FAST = replace(minimax(4, lower=3e-3, cushion=0.02, safety=1.03), name="fast")

FAMILIES: dict[str, Coefficients] = Choices(
    {
        family.name: family
        for family in (*map(taylor, (1, 2, 3, 4)), JORDAN, YOU, POLAR_EXPRESS, CANS)
    }
)
