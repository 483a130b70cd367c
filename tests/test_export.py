"""Whole updates are lowered for accelerators on a machine that has none."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from muon_optax import FLAX, METHODS, DualNorm, NewtonSchulz, Rule, muon
from muon_optax.compat import RoundedNewtonSchulz

PLATFORMS = ("cuda", "tpu")
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64")
NAMES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
NAMES |= {"complex64": "complex<f32>"}  # of dtypes, in programs
COMPUTED_IN = ("input", "float16", "bfloat16", "float32", "float64")
NORMALIZATIONS = ("schatten4", "aol", "spectral", "paper")
RULES = (Rule("fused attention", "qkv", "in out[q=44 k=44 v=44]"), *FLAX)
FORMS = METHODS | {
    **{f"{dtype} products": NewtonSchulz(compute_dtype=dtype) for dtype in COMPUTED_IN},
    "gram form": NewtonSchulz(form="gram"),
    **{name: NewtonSchulz(normalize=name) for name in NORMALIZATIONS},
    "dual norm": DualNorm(),
    **{f"rounded as {order}": RoundedNewtonSchulz(order) for order in ("torch", "keller")},
}
# Other polynomials, for time in one dtype only.
ALIKE = {name for name in METHODS if name not in ("jordan", "near_exact", "svd")}
REAL_ONLY = {form for form in FORMS if form.startswith("rounded")}

# Of a product in a program: its precision, and the dtypes of an operand and of the result.
TENSOR = r"tensor<[\dx]*x([a-z].*?>?)>"
PRODUCT = rf"dot_general .*precision = \[(.*?)\] : \({TENSOR}, .*-> {TENSOR}"


def tree(dtype):
    """Every kind of view, with matrices of two sizes: each is a program of its own.

    Sizes that no other test has: JAX remembers what it has traced, whatever the backend was.
    """
    shapes = {"query": (44, 4, 11), "up": (44, 176), "down": (176, 44), "conv": (2, 2, 11, 44)}
    shapes |= {"qkv": (44, 132)}
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
def test_an_update_is_lowered_for_accelerators(dtype, form, x64, monkeypatch):
    """With the products that an accelerator is to have, not those of this machine's backend."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    params = tree(jnp.dtype(dtype))
    tx = muon(0.02, FORMS[form], dims=RULES)
    state = jax.eval_shape(tx.init, params)
    exported = export.export(jax.jit(tx.update), platforms=PLATFORMS)(params, state, params)
    assert exported.platforms == PLATFORMS
    updates, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert shapes(updates) == shapes(params)
    if isinstance(FORMS[form], NewtonSchulz):
        operands = NAMES[FORMS[form].plan((44, 44), dtype).dtype]
        products = re.findall(PRODUCT, exported.mlir_module())
        assert operands in {given for _, given, _ in products}
        for precision, given, found in products:
            assert precision == "HIGHEST, HIGHEST"
            assert found == ("f32" if given in ("f16", "bf16") else given)
