"""Muon in plain NumPy float64; matrices of known spectra; the programs of other platforms."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np


def newton_schulz(x, schedule):
    """Algorithm 1's inner loop under Frobenius scaling, one matrix, by the definition."""
    norm = np.linalg.norm(x)
    x = x / norm if norm > 0 else x
    for stage in schedule:
        gram = x @ x.conj().T
        x = sum(c * np.linalg.matrix_power(gram, s) for s, c in enumerate(stage)) @ x
    return x


def muon_updates(grads, schedule, beta, nesterov, bias_correction):
    """The update of every step for the gradients of one matrix, of both Muon's forms."""
    mu, updates = np.zeros_like(grads[0], np.float64), []
    for t, g in enumerate(np.asarray(grads, np.float64), start=1):
        mu = beta * mu + (1 - beta) * g
        ahead = 1 - beta ** (t + 1) if bias_correction else 1.0
        now = 1 - beta**t if bias_correction else 1.0
        blend = beta * mu / ahead + (1 - beta) * g / now if nesterov else mu / now
        updates.append(newton_schulz(blend, schedule))
    return updates


def spectra(r):
    """Name → r singular values, largest 1: the shapes that momenta and edge cases have."""
    spikes = np.full(r, 0.02)
    spikes[: max(1, r // 4)] = np.linspace(1.0, 0.5, max(1, r // 4))
    half = np.where(np.arange(r) < (r + 1) // 2, np.linspace(1.0, 0.3, r), 0.0)
    return {
        "flat": np.ones(r),
        "linear": np.linspace(1.0, 0.1, r),
        "geometric": np.geomspace(1.0, 1e-2, r),
        "spikes": spikes,
        "rank_deficient": half,
        "rank_one": np.eye(1, r)[0],
        "zero": np.zeros(r),
    }


def random_isometry(rng, rows, columns, dtype):
    """`rows × columns` with orthonormal columns."""
    a = rng.standard_normal((rows, columns))
    if np.issubdtype(dtype, np.complexfloating):
        a = a + 1j * rng.standard_normal((rows, columns))
    return np.linalg.qr(a)[0]


def matrix_with_spectrum(rng, m, n, sigma, dtype=np.float64):
    """`U·diag(σ)·Vᴴ` with random U and V."""
    u = random_isometry(rng, m, len(sigma), dtype)
    v = random_isometry(rng, n, len(sigma), dtype)
    return (u * sigma) @ v.conj().T


def wide(x):
    """`x` in float64 or complex128."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def singular_values(x):
    """Of every matrix of a batch, in float64."""
    return np.linalg.svd(wide(x), compute_uv=False)


def matrices_of_spectra(shape, dtype):
    """One matrix per spectrum, `[spectra, m, n]`, and the spectra it truly has."""
    rng = np.random.default_rng(0)
    kind = np.complex128 if dtype.startswith("complex") else np.float64
    x = np.stack(
        [matrix_with_spectrum(rng, *shape, s, kind) for s in spectra(min(shape)).values()]
    )
    x = jnp.asarray(x).astype(dtype)
    return x, singular_values(wide(x))


def in_dtype(method, dtype):
    """A method with operands of that dtype, and with the margin that its family needs there."""
    try:
        return replace(method, compute_dtype=dtype)
    except ValueError:
        family = replace(method.coefficients, safety=1.03)
        return replace(method, coefficients=family, compute_dtype=dtype)


def equations(jaxpr):
    """Every equation of a jaxpr and of its calls; of a choice by platform, the CPU's."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation)
        if "jaxpr" in equation.params:
            found += equations(equation.params["jaxpr"])
        elif "branches" in equation.params:
            found += equations(equation.params["branches"][0])
    return found


def matrix_products(jaxpr):
    """The operations of every matrix product in a jaxpr, those in its calls too."""
    found = []
    for equation in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            summed = equation.invars[0].aval.shape[contracted[0]]
            found.append(2 * summed * equation.outvars[0].aval.size)
    return found


def other_muon(library, w, grads, schedule, lr, decay, nesterov=True, match_rms=False):
    """Another library's Muon in its own words: its weights after every step, its last buffer.

    Weights are `[out, ...]`, as PyTorch has them. A convolution gets the factor of its matrix.
    """
    w, buffer, weights = np.asarray(w, np.float64), np.zeros(w.shape), []
    rows, columns = w.shape[0], w[0].size
    for g in np.asarray(grads, np.float64):
        if library == "moonlight":
            buffer = 0.95 * buffer + g
            u = g + 0.95 * buffer
            factor = 0.2 * np.sqrt(max(rows, columns))
        else:  # "torch" and "keller": lerp
            buffer = buffer + (1 - 0.95) * (g - buffer)
            u = g + 0.95 * (buffer - g) if nesterov else buffer
            wide = 0.2 * np.sqrt(max(rows, columns))
            factor = wide if match_rms else np.sqrt(max(1, rows / columns))
        direction = newton_schulz(u.reshape(rows, columns), schedule).reshape(w.shape)
        w = w * (1 - lr * decay) - lr * factor * direction
        weights.append(w)
    return weights, buffer


def other_adam(library, grads, lr, b1, b2, eps):
    """The updates of Keller Jordan's and Moonlight's Adam, without decay."""
    m, v, updates = np.zeros_like(grads[0]), np.zeros_like(grads[0]), []
    for t, g in enumerate(grads, start=1):
        m, v = m + (1 - b1) * (g - m), v + (1 - b2) * (g**2 - v)
        unbiased = m / (1 - b1**t), np.sqrt(v / (1 - b2**t))
        scale = (1 - b1**t) / np.sqrt(1 - b2**t)
        keller = unbiased[0] / (unbiased[1] + eps)
        updates.append(
            -lr * (keller if library == "keller" else m / (eps + np.sqrt(v)) / scale)
        )
    return updates


def lowered(function, platform, *arguments):
    """The program for a platform, which need not be that of this machine, as text."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def product_dtypes(function, platform, shape, dtype):
    """The dtypes `(factor, factor, result)` of the products in a program for that platform."""
    text = lowered(function, platform, jax.ShapeDtypeStruct(shape, dtype))
    kind = r"tensor<[\dx]*x([a-z]\w+(?:<f\d+>)?)>"
    return set(re.findall(rf"dot_general .*: \({kind}, {kind}\) -> {kind}", text))


def numpy_measures(g, m, o):
    """Every measure of one matrix, by its definition."""
    u, sigma, vh = np.linalg.svd(m, full_matrices=False)
    values = np.linalg.svd(o, compute_uv=False)
    return {
        "alignment": np.vdot(m, o).real / sigma.sum(),
        "polar_error": np.linalg.norm(o - u @ vh, 2),
        "orthogonality_error": np.sqrt(np.mean((1 - values**2) ** 2)),
        "operator_norm": values[0],
        "update_rms": np.sqrt(np.mean(np.abs(o) ** 2)),
        "momentum_stable_rank": (sigma**2).sum() / sigma[0] ** 2,
        "gradient_cosine": np.vdot(g, m).real / np.linalg.norm(g) / np.linalg.norm(m),
    }
