"""Newton-Schulz that rounds to bfloat16 in the same places as other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from muon_optax._checks import check_choice, check_integer, check_number, describe
from muon_optax._leaves import LeafError
from muon_optax._platform import Platform, by_platform
from muon_optax.polar._linalg import check_matrix, product

Order = Literal["torch", "keller"]


@dataclass(frozen=True)
class RoundedNewtonSchulz:
    """Newton-Schulz with the roundings of another library, to reproduce its runs.

    It applies `x ↦ a·x + b·(x·xᵀ)·x + c·(x·xᵀ)²·x` `steps` times. Products accumulate in
    float32. All intermediate results are rounded to bfloat16, as by PyTorch on a CPU.
    `NewtonSchulz` is more accurate and does not depend on the scale of x. The results differ by
    1 to 4 %.

    Attributes:
      order: What to round. `"torch"` is for `torch.optim.Muon`: it rounds `B = b·A + c·A·A` and
        `a·x + B·x` once each, with `A = x·xᵀ`, and the norm is at least `eps`. `"keller"` is
        for Keller Jordan's Muon and Moonlight: it rounds every product and every sum, and adds
        `eps` to the norm.
      coefficients: a, b and c, the same at every step.
      steps: The number of steps.
      eps: A number in units of x; `order` says how it is used.

    Raises:
      ValueError: If an argument is out of its range.

    Example:
      >>> x = jnp.diag(jnp.array([2.0, 1.0]))
      >>> RoundedNewtonSchulz("torch").polar(x).diagonal().tolist()
      [0.69140625, 1.1171875]

    Source: torch/optim/_muon.py of PyTorch 2.13.0; muon.py of KellerJordan/Muon at 857d1ad;
    examples/toy_train.py of MoonshotAI/Moonlight at c2ad5b2.
    """

    order: Order
    coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315)
    steps: int = 5
    eps: float = 1e-7

    def __post_init__(self):
        check_choice("order", self.order, get_args(Order))
        if not isinstance(self.coefficients, tuple | list) or len(self.coefficients) != 3:
            raise ValueError(
                f"coefficients={describe(self.coefficients)}; use three numbers, such as "
                "(3.4445, -4.775, 2.0315), or NewtonSchulz for another degree"
            )
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        for name, number in zip("abc", self.coefficients):
            check_number(f"coefficient {name}", number, "a finite number", lambda _: True)
        check_integer("steps", self.steps)
        allowed = "a number ≥ 1e-37, the smallest that float32 does not round to 0"
        check_number("eps", self.eps, allowed, lambda e: e >= 1e-37)

    @partial(jax.jit, static_argnums=0)
    def polar(self, x: Array) -> Array:
        """Apply the steps to every matrix of a batch.

        Args:
          x: `[..., fan_in, fan_out]`, the transpose of PyTorch's weight, of any real float
            dtype.

        Returns:
          The same shape and dtype.

        Raises:
          ValueError: If x has fewer than two axes, or if it is not an array of real floats.
        """
        check_matrix(x)
        if jnp.iscomplexobj(x):
            raise LeafError(
                "", x, "it is complex, which the originals do not accept; use NewtonSchulz()"
            )
        return by_platform(self._polar, x) if x.size else x

    def _polar(self, platform: Platform, x: Array) -> Array:
        # In the originals matrices are [fan_out, fan_in], and tall ones are transposed.
        transposed = x.shape[-2] >= x.shape[-1]
        y = _normalized(_rounded(x.mT if transposed else x), self.order, self.eps)
        step = partial(_torch_step if self.order == "torch" else _keller_step, platform)
        y = lax.fori_loop(0, int(self.steps), lambda _, y: step(y, *self.coefficients), y)
        return (y.mT if transposed else y).astype(x.dtype)


def _normalized(x: Array, order: Order, eps: float) -> Array:
    """Divide by the norm, which is at least eps (torch) or has eps added to it (keller)."""
    norm = _rounded(jnp.sqrt((x * x).sum((-2, -1), keepdims=True)))
    floored = jnp.maximum(norm, _rounded(jnp.float32(eps)))
    return _rounded(x / (floored if order == "torch" else _rounded(norm + eps)))


def _torch_step(platform: Platform, x: Array, a: float, b: float, c: float) -> Array:
    gram = _rounded(_product(platform, x, x.mT))
    factor = _rounded(b * gram + c * _product(platform, gram, gram))
    return _rounded(a * x + _product(platform, factor, x))


def _keller_step(platform: Platform, x: Array, a: float, b: float, c: float) -> Array:
    gram = _rounded(_product(platform, x, x.mT))
    square = _rounded(_product(platform, _rounded(c * gram), gram))
    factor = _rounded(_rounded(b * gram) + square)
    return _rounded(_rounded(a * x) + _rounded(_product(platform, factor, x)))


def _product(platform: Platform, a: Array, b: Array) -> Array:
    """Return the product, in float32, of float32 arrays that contain bfloat16 numbers."""
    return product(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), platform=platform)


def _rounded(x: Array) -> Array:
    """Return the nearest bfloat16 numbers, as float32."""
    # XLA may remove a cast to bfloat16 and back, but not this operation.
    return lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)
