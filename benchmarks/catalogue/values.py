"""Gradients of hard values: rows 1 to 18, and 26."""

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from benchmarks.catalogue.judging import Wrong, agree, check_finite, row, wide
from benchmarks.catalogue.libraries import Library
from benchmarks.catalogue.running import (
    SLOPE,
    WITHIN,
    WITHIN_HALF,
    check_kernel,
    exact_update,
    first_step,
    grads,
    matrix,
    params,
    run,
    x64,
)

HALVES = ("float16", "bfloat16")


def _check_zero(library: Library, dtype: str) -> None:
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=dtype), params())
    updates, state = run(library.muon(0.1), zeros, zeros, zeros)
    for path in ("kernel", "bias"):
        agree(updates[path], np.zeros(zeros[path].shape), 0, f"{dtype} update of the {path}")
    check_finite(state, f"{dtype} state")


@row(1, "zero gradient", "update zero, state finite")
def zero(library: Library) -> None:
    """Two steps of the whole optimizer, in float32."""
    _check_zero(library, "float32")


@row(2, "zero gradient in float16, bfloat16", "update zero, state finite")
def zero_in_half(library: Library) -> None:
    """As 1."""
    for dtype in HALVES:
        _check_zero(library, dtype)


@row(3, "zero gradient, exact polar factor", "update zero: a partial isometry")
def zero_exactly(library: Library) -> None:
    """And not some isometry, as U·Vᴴ of an SVD would be."""
    update, _ = first_step(library, jnp.zeros((8, 12)), exact=True)
    agree(update, np.zeros((8, 12)), 0)


@row(4, "rank one", "σ₁ to P(1), the others to 0")
def rank_one(library: Library) -> None:
    """The whole update, against float64."""
    g = jnp.asarray(np.outer(matrix()[:, 0], matrix()[0]), jnp.float32)
    agree(first_step(library, g)[0], exact_update(g), WITHIN)


def _of_rank(r: int) -> jax.Array:
    u, sigma, vh = np.linalg.svd(matrix(), full_matrices=False)
    return jnp.asarray(u[:, :r] * sigma[:r] @ vh[:r], jnp.float32)


@row(5, "rank 3 of 8, exact polar factor", "three singular values 1, five 0")
def rank_exactly(library: Library) -> None:
    """Singular values, and the polar factor of the range itself."""
    g = _of_rank(3)
    update, _ = first_step(library, g, exact=True)
    sigma = np.linalg.svd(wide(update), compute_uv=False)
    agree(sigma, np.arange(8) < 3, WITHIN, "singular values")
    u, _, vh = np.linalg.svd(wide(g), full_matrices=False)
    agree(update, u[:, :3] @ vh[:3], WITHIN)


@row(6, "rank 3 of 8, 20 cubic steps", "range to 1, null space grows by 1.5 a step at most")
def rank_after_many_steps(library: Library) -> None:
    """Rounding leaves the null space singular values of m·eps, which each step multiplies."""
    update, _ = first_step(library, _of_rank(3), coefficients=(1.5, -0.5, 0.0), steps=20)
    sigma = np.linalg.svd(wide(update), compute_uv=False)
    growth = 8 * float(jnp.finfo("float32").eps) * 1.5**20
    agree(sigma[:3], np.ones(3), WITHIN, "singular values of the range")
    agree(sigma[3:], np.zeros(5), growth, "singular values of the null space")


@row(7, "condition numbers 1e2 to 1e12", "each σ to P(σ/‖σ‖)")
def ill_conditioned(library: Library) -> None:
    """The whole update, against float64 from the same rounded gradient."""
    u, _, vh = np.linalg.svd(matrix(), full_matrices=False)
    for exponent in (2, 4, 8, 12):
        g = jnp.asarray(u * np.logspace(0, -exponent, 8) @ vh, jnp.float32)
        agree(first_step(library, g)[0], exact_update(g), WITHIN, f"update at 1e{exponent}")


def _check_scales(library: Library, scale: float, dtype: str = "float32") -> None:
    g = jnp.asarray(scale * matrix(), dtype)
    update, state = first_step(library, g)
    within = WITHIN if dtype == "float32" else WITHIN_HALF
    agree(update, exact_update(wide(g) / scale), within, f"{dtype} update at {scale:.0e}")
    check_finite(state, f"{dtype} state at {scale:.0e}")


@row(8, "‖G‖ = 1e-30", "update as at 1")
def small(library: Library) -> None:
    """In float32, which has no square of that norm: ε = 0 in place of 1e-8 does not help."""
    _check_scales(library, 1e-30)


@row(9, "‖G‖ = 1e-38, subnormal entries", "update as at 1, or zero; finite")
def tiny(library: Library) -> None:
    """Entries ±1.2e-38, the smallest normal, and ±1e-40, which XLA may take for zeros."""
    signs = np.where(matrix() > 0, 1.0, -1.0)
    for entry in (float(jnp.finfo("float32").tiny), 1e-40):
        update, state = first_step(library, jnp.asarray(entry * signs, jnp.float32))
        check_finite(state, "state")
        if np.asarray(update).any():
            agree(update, exact_update(signs), WITHIN, f"update at {entry:.0e}")


@row(10, "‖G‖ = 1e30 in float32, bfloat16", "update as at 1, state finite")
def large(library: Library) -> None:
    """The square of the norm is no float32."""
    for dtype in ("float32", "bfloat16"):
        _check_scales(library, 1e30, dtype)


@row(11, "‖G‖ = 1e38, entries of the largest number", "update as at 1, state finite")
def largest(library: Library) -> None:
    """Entries ± the largest finite number, of float32 and of both half precisions."""
    _check_scales(library, 1e38)
    signs = np.where(matrix() > 0, 1.0, -1.0)
    for dtype in ("float32", *HALVES):
        most = float(jnp.finfo(dtype).max)
        update, state = first_step(library, jnp.asarray(most * signs, dtype))
        within = WITHIN if dtype == "float32" else WITHIN_HALF
        agree(update, exact_update(signs), within, f"{dtype} update at {most:.0e}")
        check_finite(state, f"{dtype} state at {most:.0e}")


@row(12, "256 × 256 of N(0, 1) in float16", "as in float64")
def gaussian_in_float16(library: Library) -> None:
    """Over the RMS of its entries; the square of the norm, 65536, is no float16."""
    g = jnp.asarray(np.random.default_rng(0).standard_normal((256, 256)), "float16")
    update, expected = first_step(library, g)[0], exact_update(g)
    rms = np.sqrt(np.mean(expected**2))
    agree(wide(update) / rms, expected / rms, WITHIN_HALF)


def _with_entry(value: float) -> jax.Array:
    return grads()["kernel"].at[1, 2].set(value)


def _check_contained(library: Library, value: float) -> None:
    """The kernel that is hit gets what is not finite, or nothing; all others what they had."""
    model = params(other={"kernel": jnp.ones((8, 12))})
    clean = grads(other={"kernel": grads()["kernel"][::-1]})
    expected, _ = run(library.muon(0.1), model, clean)
    for policy in library.policies:
        tx = library.muon(0.1, on_nonfinite=policy)
        updates, state = run(tx, model, {**clean, "kernel": _with_entry(value)})
        hit = np.asarray(updates.pop("kernel"))
        if hit.any() and np.isfinite(hit).all():
            raise Wrong(f"under {policy} the update of {value} is finite and not zero")
        agree(updates["bias"], expected["bias"], 0, "update of the bias")
        agree(updates["other"]["kernel"], expected["other"]["kernel"], WITHIN, "another update")
        state = [x for x in jax.tree.leaves(state) if x.shape == (8, 12)]
        if not any(np.isfinite(x).all() for x in state):
            raise Wrong("another kernel's momentum is not finite")


@row(13, "a NaN among the entries", "by a policy, and no other leaf is touched")
def nan(library: Library) -> None:
    """Under each policy of its own: that update is NaN or zero, the others as without."""
    _check_contained(library, np.nan)


@row(14, "an infinity among the entries", "by a policy, and no other leaf is touched")
def infinity(library: Library) -> None:
    """As 13, of both signs."""
    for value in (np.inf, -np.inf):
        _check_contained(library, value)


@row(15, "a NaN, then clean steps", "recovers under a guard")
def nan_then_clean(library: Library) -> None:
    """Guarded by the library or by `optax.apply_if_finite`; clean gradients are all equal."""
    clean = grads()
    broken = {**clean, "kernel": _with_entry(np.nan)}
    tx = library.guarded(0.1)
    updates, _ = run(tx, params(), clean, broken)
    agree(updates["kernel"], np.zeros((8, 12)), 0, "update of the broken step")
    updates, state = run(tx, params(), clean, broken, clean, clean)
    check_kernel(updates)
    check_finite(updates, "update afterwards")
    check_finite(state, "state afterwards")


@row(16, "a NaN in one expert of a stack", "the other experts are not touched")
def nan_in_an_expert(library: Library) -> None:
    """A leaf `[experts, in, out]`."""
    g = jnp.stack([jnp.asarray(matrix(seed=seed), jnp.float32) for seed in range(3)])
    dims = MuonDimensionNumbers(1, 2)
    tx = library.scale_by_muon(dims=dims)
    update, _ = run(tx, jnp.zeros_like(g), g.at[1, 2, 3].set(jnp.nan))
    for expert in (0, 2):
        agree(update[expert], exact_update(g[expert]), WITHIN, f"update of expert {expert}")


@row(17, "1×1, 1×n, n×1", "P(1) times the sign, the unit vector")
def vectors(library: Library) -> None:
    """Against float64."""
    for shape in ((1, 1), (1, 12), (12, 1)):
        g = jnp.asarray(np.linspace(-3.0, -1.0, max(shape)).reshape(shape), jnp.float32)
        agree(first_step(library, g)[0], exact_update(g), WITHIN, f"update of {shape}")


@row(18, "4 × 4096, 4096 × 4", "right, in the memory of a few such matrices")
def lopsided(library: Library) -> None:
    """Against float64; a Gram matrix of the long side would be 1024 of them."""
    g = jnp.asarray(matrix((4, 4096)), jnp.float32)
    for x in (g, g.T):
        tx = library.scale_by_muon()
        step = jax.jit(tx.update).lower(x, tx.init(x), x).compile()
        update, _ = step(x, tx.init(x), x)
        agree(update, exact_update(x), WITHIN, f"update of {x.shape}")
        times = step.memory_analysis().temp_size_in_bytes / x.nbytes
        if times > 32:
            raise Wrong(f"{x.shape} takes the memory of {times:.0f}")


@row(26, "complex64, complex128", "as in complex128: unitary but for P")
def complex_entries(library: Library) -> None:
    """Wide and tall, against float64; an error that names the dtype would do as well."""
    real, imaginary = matrix(seed=1), matrix(seed=2)
    with x64():
        for dtype in ("complex64", "complex128"):
            g = jnp.asarray(real + 1j * imaginary, dtype)
            within = 4 * SLOPE * float(jnp.finfo(dtype).eps)
            for x in (g, g.T):
                update, _ = first_step(library, x, eps=0.0)  # 1e-8 is no rounding error
                agree(update, exact_update(x), within, f"{dtype} update")
