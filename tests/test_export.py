"""Whole updates are lowered for accelerators on a machine that has none."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from muon_optax import FLAX, METHODS, SVD, DualNorm, NewtonSchulz, Rule, muon
from muon_optax.compat import RoundedNewtonSchulz

RULES = (Rule("fused attention", "qkv", "in out[q=8 k=8 v=8]"), *FLAX)
SHAPES = {
    "query": (8, 2, 4),
    "up": (8, 32),
    "down": (32, 8),
    "conv": (2, 2, 4, 8),
    "qkv": (8, 24),
}
# Every dtype in one method, every kind of method in one dtype: its other polynomials are other
# constants in the same program.
CASES = {
    **{f"default, {d}": (NewtonSchulz(), d) for d in ("float16", "bfloat16", "float64")},
    **{f"default, {d}": (NewtonSchulz(), d) for d in ("float32", "complex64")},
    **{
        f"{d} products": (NewtonSchulz(compute_dtype=d), "float32")
        for d in ("input", "float16")
    },
    "float64 products": (NewtonSchulz(compute_dtype="float64"), "float32"),
    "direct form": (NewtonSchulz(form="direct"), "float32"),
    "schatten4": (METHODS["near_exact"], "complex64"),
    **{n: (NewtonSchulz(normalize=n), "float32") for n in ("aol", "spectral", "paper")},
    "svd": (SVD(), "float32"),
    "svd, complex64": (SVD(), "complex64"),
    "dual norm": (DualNorm(), "float32"),
    "rounded as torch": (RoundedNewtonSchulz("torch"), "bfloat16"),
    "rounded as keller": (RoundedNewtonSchulz("keller"), "float32"),
}

# Of a product in a program: its precision, and the dtypes of an operand and of the result.
TENSOR = r"tensor<[\dx]*x([a-z].*?>?)>"
PRODUCT = rf"dot_general .*precision = \[(.*?)\] : \({TENSOR}, .*-> {TENSOR}"


def structs(dtype):
    """A leaf of every kind of view, and one for the fallback."""
    kernels = {n: {"kernel": jax.ShapeDtypeStruct(s, dtype)} for n, s in SHAPES.items()}
    return kernels | {"norm": {"scale": jax.ShapeDtypeStruct((8,), dtype)}}


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.parametrize("case", CASES)
def test_an_update_is_lowered_for_accelerators(case, x64):
    method, dtype = CASES[case]
    params = structs(jnp.dtype(dtype))
    tx = muon(0.02, method, dims=RULES)
    state = jax.eval_shape(tx.init, params)
    exported = export.export(jax.jit(tx.update), platforms=("cuda", "tpu"))
    exported = exported(params, state, params)
    updates, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert shapes(updates) == shapes(params)
    for precision, operand, total in re.findall(PRODUCT, exported.mlir_module()):
        highest = "HIGHEST, HIGHEST" if operand not in ("f16", "bf16") else "DEFAULT, DEFAULT"
        assert precision == highest or not isinstance(method, NewtonSchulz)
        assert total in sums(operand, "tpu")


def sums(operand, platform):
    """What a product may return: float32 or wider, or what a TPU rounds such a sum to."""
    wide = "f32" if operand in ("f16", "bf16") else operand
    return {wide, "bf16"} if (operand, platform) == ("bf16", "tpu") else {wide}


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("named", [None, "bfloat16", "float16", "float32"])
def test_products_have_the_operands_of_the_platform_and_sums_in_float32(named, platform):
    """By itself bfloat16, but on a CPU, where half precision is rounded and computed wide."""
    polar = NewtonSchulz(compute_dtype=named).polar
    traced = jax.jit(polar).trace(jax.ShapeDtypeStruct((2, 8, 32), jnp.float32))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    found = set(re.findall(PRODUCT, program))
    operands = {None: "bf16", "bfloat16": "bf16", "float16": "f16", "float32": "f32"}[named]
    operands = "f32" if platform == "cpu" else operands
    precision = "HIGHEST, HIGHEST" if operands == "f32" else "DEFAULT, DEFAULT"
    expected = {(precision, operands, total) for total in sums(operands, platform)}
    # A norm's products may be wider.
    assert expected <= found <= expected | {("HIGHEST, HIGHEST", "f32", "f32")}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dims", ["in out", "out in"])
def test_no_matrix_is_transposed(platform, dims):
    """Wide, tall and square; whichever side is first."""
    leaves = {"up": (8, 32), "down": (32, 8), "square": (8, 8), "wider": (8, 64)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in leaves.items()}
    tx = muon(0.02, dims=dims)
    traced = jax.jit(tx.update).trace(params, jax.eval_shape(tx.init, params), params)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.dot_general" in program and "stablehlo.transpose" not in program
