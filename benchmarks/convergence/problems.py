"""Problems with known constants L, L_F, σ and D, and how to run on them."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from muon_optax import PolarMethod, diagnostics, scale_by_muon
from muon_optax.theory import Problem


class MatrixProblem(Protocol):
    """A function of one matrix, with a noisy gradient and known constants."""

    def value(self, w: Array) -> Array: ...

    def noisy_gradient(self, key: Array, w: Array, batch: int) -> Array: ...

    def constants(self, w: Array, steps: int, batch: int) -> Problem: ...


@dataclass(frozen=True, eq=False)
class Quadratic:
    """`f(W) = ½·tr((W-S)ᵀ·A·(W-S))`, with Gaussian noise of `E‖·‖_F² = sigma²` a sample."""

    a: Array  # [m, m], positive definite, m ≤ n
    s: Array  # [m, n]
    sigma: float = 0.0

    def value(self, w: Array) -> Array:
        gap = w - self.s
        return 0.5 * jnp.sum(gap * (self.a @ gap))

    def noisy_gradient(self, key: Array, w: Array, batch: int) -> Array:
        noise = jax.random.normal(key, w.shape, w.dtype) * self.sigma
        return self.a @ (w - self.s) + noise / (batch * w.size) ** 0.5

    def constants(self, w: Array, steps: int, batch: int) -> Problem:
        """`L = tr A`, attained at an isometry; `L_F = λ_max(A)`; the infimum is 0."""
        curvatures = jnp.linalg.eigvalsh(self.a)
        return Problem(
            L=float(curvatures.sum()),
            L_F=float(curvatures.max()),
            D=float(self.value(w)),
            sigma=self.sigma,
            r=min(w.shape),
            T=steps,
            B=batch,
        )


@dataclass(frozen=True, eq=False)
class HeavyTails(Quadratic):
    """The same with Student's t for noise: entries of a sample have `p < freedom` moments."""

    scale: float = 1.0
    freedom: float = 1.5
    p: float = 1.3

    def noisy_gradient(self, key: Array, w: Array, batch: int) -> Array:
        noise = jax.random.t(key, self.freedom, (batch, *w.shape), w.dtype)
        return self.a @ (w - self.s) + self.scale * noise.mean(0)

    def constants(self, w: Array, steps: int, batch: int) -> Problem:
        """`E‖·‖_F^p ≤ Σ E|·|^p` for p ≤ 2, and the absolute moments of t."""
        freedom, p = self.freedom, self.p
        moment = freedom ** (p / 2) * math.gamma((p + 1) / 2) * math.gamma((freedom - p) / 2)
        moment *= w.size / (math.sqrt(math.pi) * math.gamma(freedom / 2))
        sigma = self.scale * moment ** (1 / p)
        return replace(super().constants(w, steps, batch), sigma=sigma, p=p)


@dataclass(frozen=True, eq=False)
class Robust:
    """`f(W) = mean_i Σ_j ρ((x_i·W)_j - y_ij)`, `ρ(z) = z²/(1+z²)`: regression, not convex."""

    x: Array  # [N, m]
    y: Array  # [N, n]

    def value(self, w: Array) -> Array:
        square = (self.x @ w - self.y) ** 2
        return (square / (1 + square)).sum() / len(self.x)

    def noisy_gradient(self, key: Array, w: Array, batch: int) -> Array:
        chosen = jax.random.randint(key, [batch], 0, len(self.x))
        part = Robust(self.x[chosen], self.y[chosen])
        return jax.grad(part.value)(w)

    def constants(self, w: Array, steps: int, batch: int) -> Problem:
        """From |ρ''| ≤ 2 and ρ'² ≤ 27/64; the infimum is at least 0."""
        count, columns = self.y.shape
        mean_square = float((self.x**2).sum()) / count
        return Problem(
            L=2 * mean_square,
            L_F=2 * float(jnp.linalg.norm(self.x, 2)) ** 2 / count,
            D=float(self.value(w)),
            sigma=(columns * 27 / 64 * mean_square) ** 0.5,
            r=min(w.shape),
            T=steps,
            B=batch,
        )


def quadratic(
    key: Array, m: int, n: int, decay: float, sigma: float = 0.0, gap: float = 1.0
) -> Quadratic:
    """Curvatures `∝ i^-decay` with trace 1, a random solution, and `f(0) = gap`."""
    turn, where = jax.random.split(key)
    basis, _ = jnp.linalg.qr(jax.random.normal(turn, (m, m)))
    curvatures = jnp.arange(1.0, m + 1) ** -decay
    a = (basis * (curvatures / curvatures.sum())) @ basis.T
    s = jax.random.normal(where, (m, n))
    at_zero = Quadratic(a, s).value(jnp.zeros((m, n)))
    return Quadratic(a, s * jnp.sqrt(gap / at_zero), sigma)


def heavy_tails(smooth: Quadratic, scale: float) -> HeavyTails:
    """The quadratic with Student's t, 1.5 degrees of freedom, for noise."""
    return HeavyTails(smooth.a, smooth.s, scale=scale)


def robust(key: Array, m: int, n: int, samples: int = 128) -> Robust:
    """Gaussian regressors, a planted solution, one target in five an outlier."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (samples, m)) / m**0.5
    y = x @ jax.random.normal(keys[1], (m, n))
    outlier = jax.random.bernoulli(keys[2], 0.2, (samples, 1))
    return Robust(x, y + 5 * outlier * jax.random.normal(keys[3], y.shape))


def make(name: str, m: int, n: int) -> MatrixProblem:
    """Least squares with Gaussian noise or Student's t, or a robust one with mini-batches."""
    key = jax.random.key(0)
    if name == "robust":
        return robust(key, m, n)
    smooth = quadratic(key, m, n, decay=1.0, sigma=0.5, gap=8.0)
    return heavy_tails(smooth, scale=0.02) if name == "heavy tails" else smooth


class Trajectory(NamedTuple):
    """What a run leaves: its end, and per step what the bounds speak of."""

    end: Array  # [m, n]
    gradient: Array  # [T], the nuclear norm of the exact gradient before each step
    alignment: Array  # [T]; this and what follows are NaN where `every` is given
    operator_norm: Array  # [T], of the update
    polar_error: Array  # [T]


def muon(method: PolarMethod, beta: float) -> optax.GradientTransformation:
    """Algorithm 1 of the paper up to the step size: no Nesterov step, no bias correction."""
    return scale_by_muon(method, beta, nesterov=False, bias_correction=False)


def sgdm(beta: float) -> optax.GradientTransformation:
    """`M_t = β·M_{t-1} + G_t`."""
    return optax.trace(beta)


@partial(jax.jit, static_argnums=(0, 1, 4, 5, 7))
def run(
    problem: MatrixProblem,
    tx: optax.GradientTransformation,
    eta: Array,
    key: Array,
    steps: int,
    batch: int,
    start: Array,
    every: int | None = None,
) -> Trajectory:
    """`W ← W - η_t·update` from `start`; `eta` is a number, or one for every step.

    With `every`, only the gradient is measured, and only so often; NaN between.
    """

    def nuclear_norm(w):
        return jnp.linalg.norm(jax.grad(problem.value)(w), "nuc")

    def step(carry, inputs):
        w, state = carry
        t, key, eta = inputs
        nuclear = jax.lax.cond(
            t % (every or 1) == 0, nuclear_norm, lambda w: jnp.nan * w[0, 0], w
        )
        g = problem.noisy_gradient(key, w, batch)
        update, new = tx.update({"w": g}, state)
        o = update["w"]
        w_next = w - eta * o
        if every:
            return (w_next, new), (nuclear, jnp.nan, jnp.nan, jnp.nan)
        m = optax.tree.get(new, "mu", default={"w": o})["w"]
        seen = diagnostics.alignment(m, o), diagnostics.operator_norm(o)
        return (w_next, new), (nuclear, *seen, diagnostics.polar_error(m, o))

    keys = jax.random.split(key, steps)
    etas = jnp.broadcast_to(eta, [steps])
    (end, _), seen = jax.lax.scan(
        step, (start, tx.init({"w": start})), (jnp.arange(steps), keys, etas)
    )
    return Trajectory(end, *seen)
