"""Whole updates are lowered for accelerators on a machine that has none."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from muon_optax import FLAX, METHODS, DualNorm, NewtonSchulz, Rule, muon
from muon_optax.compat import RoundedNewtonSchulz

PLATFORMS = ("cuda", "tpu")
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64")
COMPUTED_IN = ("input", "float16", "bfloat16", "float32", "float64")
NORMALIZATIONS = ("schatten4", "aol", "spectral", "paper")
RULES = (Rule("fused attention", "qkv", "in out[q=64 k=64 v=64]"), *FLAX)
FORMS = METHODS | {
    **{f"{dtype} products": NewtonSchulz(compute_dtype=dtype) for dtype in COMPUTED_IN},
    "gram form": NewtonSchulz(form="gram"),
    **{name: NewtonSchulz(normalize=name) for name in NORMALIZATIONS},
    "dual norm": DualNorm(),
    **{f"rounded as {order}": RoundedNewtonSchulz(order) for order in ("torch", "keller")},
}
# Other numbers in the same program; `near_exact` has more steps, and restarts.
ALIKE = {name for name in METHODS if name not in ("jordan", "near_exact", "svd")}
REAL_ONLY = {form for form in FORMS if form.startswith("rounded")}


def tree(dtype):
    """Every kind of view, with matrices of two sizes: each is a program of its own."""
    shapes = {"query": (64, 4, 16), "up": (64, 256), "down": (256, 64), "conv": (2, 2, 16, 64)}
    shapes |= {"qkv": (64, 192)}
    kernels = {n: {"kernel": jax.ShapeDtypeStruct(s, dtype)} for n, s in shapes.items()}
    return kernels | {"norm": {"scale": jax.ShapeDtypeStruct((64,), dtype)}}


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def allowed(form, dtype):
    if form in REAL_ONLY:
        return dtype != "complex64"
    return form not in ALIKE or dtype == "bfloat16"


@pytest.mark.parametrize(
    ("form", "dtype"), [(f, d) for f in FORMS for d in DTYPES if allowed(f, d)]
)
def test_an_update_is_lowered_for_accelerators(dtype, form, x64):
    params = tree(jnp.dtype(dtype))
    tx = muon(0.02, FORMS[form], dims=RULES)
    state = jax.eval_shape(tx.init, params)
    exported = export.export(jax.jit(tx.update), platforms=PLATFORMS)(params, state, params)
    assert exported.platforms == PLATFORMS
    updates, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert shapes(updates) == shapes(params)
