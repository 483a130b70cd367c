"""Gradients with hard values: rows 1 to 18, and 26."""

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from tests.quality.catalogue.checks import Wrong, check_close, check_finite, double, row
from tests.quality.catalogue.libraries import Library
from tests.quality.catalogue.steps import (
    HALF_TOLERANCE,
    SLOPE,
    TOLERANCE,
    check_kernel,
    exact_update,
    first_step,
    grads,
    matrix,
    params,
    run,
    x64,
)

SIGNS = np.where(matrix() > 0, 1.0, -1.0)


def _check_zero(library: Library, dtype: str) -> None:
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=dtype), params())
    updates, state = run(library.muon(0.1), zeros, zeros, zeros)
    for path in ("kernel", "bias"):
        check_close(
            updates[path], np.zeros(zeros[path].shape), 0, f"{dtype} update of the {path}"
        )
    check_finite(state, f"{dtype} state")


@row(1, "zero gradient", "update zero, state finite")
def zero(library: Library) -> None:
    _check_zero(library, "float32")


@row(2, "zero gradient in float16, bfloat16", "update zero, state finite")
def zero_in_half_precision(library: Library) -> None:
    for dtype in ("float16", "bfloat16"):
        _check_zero(library, dtype)


@row(3, "zero gradient, exact polar factor", "update zero: a partial isometry")
def zero_exactly(library: Library) -> None:
    """An SVD's `U·Vᴴ` would be an arbitrary isometry."""
    check_close(first_step(library, jnp.zeros((8, 12)), exact=True)[0], np.zeros((8, 12)), 0)


@row(4, "rank one", "σ₁ to P(1), the others to 0")
def rank_one(library: Library) -> None:
    g = jnp.asarray(np.outer(matrix()[:, 0], matrix()[0]), jnp.float32)
    check_close(first_step(library, g)[0], exact_update(g), TOLERANCE)


def _of_rank(r: int) -> jax.Array:
    u, sigma, vh = np.linalg.svd(matrix(), full_matrices=False)
    return jnp.asarray(u[:, :r] * sigma[:r] @ vh[:r], jnp.float32)


@row(5, "rank 3 of 8, exact polar factor", "three singular values 1, five 0")
def rank_exactly(library: Library) -> None:
    g = _of_rank(3)
    update, _ = first_step(library, g, exact=True)
    u, _, vh = np.linalg.svd(double(g), full_matrices=False)
    check_close(update, u[:, :3] @ vh[:3], TOLERANCE)


@row(6, "rank 3 of 8, 20 cubic steps", "range to 1, null space grows by at most 1.5 a step")
def rank_after_many_steps(library: Library) -> None:
    """Rounding leaves singular values of m·eps in the null space; each step multiplies them."""
    update, _ = first_step(library, _of_rank(3), coefficients=(1.5, -0.5, 0.0), steps=20)
    sigma = np.linalg.svd(double(update), compute_uv=False)
    growth = 8 * float(jnp.finfo("float32").eps) * 1.5**20
    check_close(sigma[:3], np.ones(3), TOLERANCE, "singular values of the range")
    check_close(sigma[3:], np.zeros(5), growth, "singular values of the null space")


@row(7, "condition numbers 1e2 to 1e12", "each σ to P(σ/‖σ‖)")
def ill_conditioned(library: Library) -> None:
    u, _, vh = np.linalg.svd(matrix(), full_matrices=False)
    for exponent in (2, 4, 8, 12):
        g = jnp.asarray(u * np.logspace(0, -exponent, 8) @ vh, jnp.float32)
        check_close(
            first_step(library, g)[0], exact_update(g), TOLERANCE, f"update at 1e{exponent}"
        )


def _check_direction(library: Library, scale: float, dtype: str, direction: np.ndarray) -> None:
    """The update of `scale * direction` is that of `direction`, and the state is finite."""
    update, state = first_step(library, jnp.asarray(scale * direction, dtype))
    tolerance = TOLERANCE if dtype == "float32" else HALF_TOLERANCE
    expected = exact_update(jnp.asarray(direction, dtype))
    check_close(update, expected, tolerance, f"{dtype} update at {scale:.0e}")
    check_finite(state, f"{dtype} state at {scale:.0e}")


@row(8, "‖G‖ = 1e-30", "update as at 1")
def small(library: Library) -> None:
    """Its square is no float32: ε = 0 instead of 1e-8 does not help."""
    _check_direction(library, 1e-30, "float32", matrix())


@row(9, "‖G‖ = 1e-38, subnormal entries", "update as at 1, or zero; finite")
def tiny(library: Library) -> None:
    """Entries ±1.2e-38, the smallest normal, and ±1e-40, which XLA may treat as zero."""
    for entry in (float(jnp.finfo("float32").tiny), 1e-40):
        update, state = first_step(library, jnp.asarray(entry * SIGNS, jnp.float32))
        check_finite(state, "state")
        if np.asarray(update).any():
            check_close(update, exact_update(SIGNS), TOLERANCE, f"update at {entry:.0e}")


@row(10, "‖G‖ = 1e30 in float32, bfloat16", "update as at 1, state finite")
def large(library: Library) -> None:
    """The square of the norm overflows float32."""
    for dtype in ("float32", "bfloat16"):
        _check_direction(library, 1e30, dtype, matrix())


@row(11, "‖G‖ = 1e38, largest finite entries", "update as at 1, state finite")
def largest(library: Library) -> None:
    """Entries ± the largest finite number of float32 and of both half precisions."""
    _check_direction(library, 1e38, "float32", matrix())
    for dtype in ("float32", "float16", "bfloat16"):
        _check_direction(library, float(jnp.finfo(dtype).max), dtype, SIGNS)


@row(12, "256 × 256 of N(0, 1) in float16", "as in float64")
def gaussian_in_float16(library: Library) -> None:
    """Relative to the RMS of its entries. The square of the norm, 65536, overflows float16."""
    g = jnp.asarray(np.random.default_rng(0).standard_normal((256, 256)), "float16")
    update, expected = first_step(library, g)[0], exact_update(g)
    rms = np.sqrt(np.mean(expected**2))
    check_close(double(update) / rms, expected / rms, HALF_TOLERANCE)


def _with_entry(value: float) -> jax.Array:
    return grads()["kernel"].at[1, 2].set(value)


def _check_contained(library: Library, value: float) -> None:
    """Under each policy the kernel's update is not finite or zero; the others are unchanged."""
    model = params(other={"kernel": jnp.ones((8, 12))})
    clean = grads(other={"kernel": grads()["kernel"][::-1]})
    expected, _ = run(library.muon(0.1), model, clean)
    for policy in library.policies:
        tx = library.muon(0.1, on_nonfinite=policy)
        updates, state = run(tx, model, {**clean, "kernel": _with_entry(value)})
        update = np.asarray(updates["kernel"])
        if update.any() and np.isfinite(update).all():
            raise Wrong(f"under {policy} the update of {value} is finite and not zero")
        check_close(updates["bias"], expected["bias"], 0, "update of the bias")
        other = updates["other"]["kernel"], expected["other"]["kernel"]
        check_close(*other, TOLERANCE, "another update")
        momenta = [x for x in jax.tree.leaves(state) if x.shape == (8, 12)]
        if not any(np.isfinite(x).all() for x in momenta):
            raise Wrong("another kernel's momentum is not finite")


@row(13, "a NaN among the entries", "by a policy, and other leaves are unchanged")
def nan(library: Library) -> None:
    _check_contained(library, np.nan)


@row(14, "an infinity among the entries", "by a policy, and other leaves are unchanged")
def infinity(library: Library) -> None:
    for value in (np.inf, -np.inf):
        _check_contained(library, value)


@row(15, "a NaN, then clean steps", "recovers under a guard")
def nan_then_clean(library: Library) -> None:
    """The guard is the library's or `optax.apply_if_finite`."""
    clean, tx = grads(), library.guarded(0.1)
    broken = {**clean, "kernel": _with_entry(np.nan)}
    updates, _ = run(tx, params(), clean, broken)
    check_close(updates["kernel"], np.zeros((8, 12)), 0, "update of the broken step")
    updates, state = run(tx, params(), clean, broken, clean, clean)
    check_kernel(updates)
    check_finite((updates, state), "update or state afterwards")


@row(16, "a NaN in one expert of a stack", "the other experts are unchanged")
def nan_in_an_expert(library: Library) -> None:
    g = jnp.stack([jnp.asarray(matrix(seed=seed), jnp.float32) for seed in range(3)])
    tx = library.scale_by_muon(dims=MuonDimensionNumbers(1, 2))
    update, _ = run(tx, jnp.zeros_like(g), g.at[1, 2, 3].set(jnp.nan))
    for expert in (0, 2):
        check_close(
            update[expert], exact_update(g[expert]), TOLERANCE, f"update of expert {expert}"
        )


@row(17, "1×1, 1×n, n×1", "P(1) times the sign, the unit vector")
def vectors(library: Library) -> None:
    for shape in ((1, 1), (1, 12), (12, 1)):
        g = jnp.asarray(np.linspace(-3.0, -1.0, max(shape)).reshape(shape), jnp.float32)
        check_close(first_step(library, g)[0], exact_update(g), TOLERANCE, f"update of {shape}")


@row(18, "4 × 4096, 4096 × 4", "right, in the memory of a few such matrices")
def lopsided(library: Library) -> None:
    """A Gram matrix of the long side would take the memory of 1024 such matrices."""
    g = jnp.asarray(matrix((4, 4096)), jnp.float32)
    for x in (g, g.T):
        tx = library.scale_by_muon()
        step = jax.jit(tx.update).lower(x, tx.init(x), x).compile()
        update, _ = step(x, tx.init(x), x)
        check_close(update, exact_update(x), TOLERANCE, f"update of {x.shape}")
        ratio = step.memory_analysis().temp_size_in_bytes / x.nbytes
        if ratio > 32:
            raise Wrong(f"{x.shape} takes the memory of {ratio:.0f} such matrices")


@row(26, "complex64, complex128", "as in complex128: unitary but for P")
def complex_entries(library: Library) -> None:
    """Wide and tall; ε = 0, because 1e-8 would exceed a rounding error of complex128."""
    g = matrix(seed=1) + 1j * matrix(seed=2)
    with x64():
        for dtype in ("complex64", "complex128"):
            tolerance = 4 * SLOPE * float(jnp.finfo(dtype).eps)
            for x in (jnp.asarray(g, dtype), jnp.asarray(g.T, dtype)):
                update, _ = first_step(library, x, eps=0.0)
                check_close(update, exact_update(x), tolerance, f"{dtype} update")
