"""What the property tests draw, and how many examples of it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from reference import matrix_with_spectrum
from tolerances import tolerance

from muon_optax import METHODS, MuonDimensionNumbers, NewtonSchulz
from muon_optax.dims import Spec
from muon_optax.transforms._shape import SHAPE_SCALINGS

BATCH = 6
# Each is compiled: few of them, and many matrices in each.
KINDS = [
    ("float16", (3, 8)),
    ("bfloat16", (4, 4)),
    ("float32", (3, 8)),
    ("complex64", (3, 8)),
    ("float64", (4, 4)),
]
# `test_polar.py` has the other families, too.
METHODS = {
    name: METHODS[name] for name in ("taylor2", "jordan", "cans", "fast", "near_exact", "svd")
}
METHODS |= {
    "jordan, gram": NewtonSchulz("jordan", 5, "schatten4", form="gram"),
    "polar_express, direct": NewtonSchulz("polar_express", 8, form="direct"),
    "taylor3, spectral": NewtonSchulz("taylor3", 4, "spectral"),
    "you, aol": NewtonSchulz("you", 5, "aol"),
    "jordan, bfloat16": NewtonSchulz("jordan", 5, compute_dtype="bfloat16"),
    "taylor2, float16": NewtonSchulz("taylor2", 5, compute_dtype="float16"),
}
SCHEDULED = {k: m for k, m in METHODS.items() if isinstance(m, NewtonSchulz)}

# Those that move singular values alone, and whose products are not in half precision.
SPECTRAL = {
    name: method
    for name, method in SCHEDULED.items()
    if method.normalize != "aol" and method.compute_dtype is None
}


def examples(count):
    """So many, twenty times as many in the profile `random`."""
    fixed = hypothesis.settings.default.derandomize
    return hypothesis.settings(max_examples=count if fixed else 20 * count)


@jax.jit
def every_polar(x):
    """Of every method: one program compiles faster than one each."""
    return {name: method.polar(x) for name, method in METHODS.items()}


def normalized(method, sigma):
    """Singular values, `[..., r]`, over the norm that a method takes."""
    order = {"frobenius": 2, "schatten4": 4, "spectral": np.inf}[method.normalize]
    for norm in (np.inf, order):  # the largest first, or a small one to the fourth is 0
        size = np.linalg.norm(sigma, norm, axis=-1, keepdims=True)
        sigma = sigma / np.where(size > 0, size, 1.0)
    return sigma


SINGULAR_VALUES = st.one_of(
    st.sampled_from([0.0, 1.0]), st.floats(0.01, 1), st.floats(-12, 0).map(lambda e: 10.0**e)
)


def rounding(method, x):
    """In the operator norm; of 20000 random matrices the worst took 0.45 of it."""
    return 4 * tolerance(method, x.dtype, x.shape)


def kind(dtype):
    """The NumPy dtype in which matrices are made."""
    return np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64


@st.composite
def with_spectra(draw, shape, dtype, values=SINGULAR_VALUES):
    """A batch of random singular vectors and drawn singular values."""
    r = min(shape)
    spectrum = st.lists(values, min_size=r, max_size=r).map(np.array)
    spectra = draw(st.lists(spectrum, min_size=BATCH, max_size=BATCH))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.stack([matrix_with_spectrum(rng, *shape, s, kind(dtype)) for s in spectra])


def matrices(shape, dtype):
    """`with_spectra`, or of entries much alike: there rounding errors do not average out."""
    alike = st.sampled_from([0.0, 0.0, 1.0, 100.0])
    return st.builds(np.add, with_spectra(shape, dtype), alike).map(
        lambda x: jnp.asarray(x).astype(dtype)
    )


@st.composite
def short_numbers(draw, shape, dtype):
    """A batch of whole numbers up to 127, to be scaled without rounding."""
    parts = [
        draw(arrays.arrays(np.int8, (BATCH, *shape), elements=st.integers(-127, 127)))
        for _ in range(1 + (kind(dtype) is np.complex128))
    ]
    return sum(unit * part.astype(np.float64) for unit, part in zip((1, 1j), parts))


def exponents(dtype):
    """Of the powers of two that keep `short_numbers` normal and finite."""
    info = jnp.finfo(dtype)
    return st.integers(int(info.minexp), int(info.maxexp) - 7)


@st.composite
def finite_matrices(draw, shape, dtype):
    """Any bits that are numbers: the largest beside the smallest, subnormal ones too."""
    real = jnp.finfo(dtype).dtype
    x = np.frombuffer(draw(bits(shape, dtype)), real).reshape(BATCH, *shape, -1)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        x = np.where(np.isfinite(x), x, np.asarray(jnp.finfo(real).max, real))
    return jnp.asarray(x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1], dtype)


def bits(shape, dtype):
    size = BATCH * math.prod(shape) * jnp.dtype(dtype).itemsize
    return st.binary(min_size=size, max_size=size)


@dataclass(frozen=True)
class Leaf:
    """A parameter to be made, and its spec; None where it is no matrix."""

    shape: tuple[int, ...]
    spec: Spec
    dtype: str


class Pair(NamedTuple):
    """A node whose children have names and an order."""

    left: Any
    right: Any


MATRICES = [
    ((4, 6), "in out"),
    ((6, 4), "in out"),
    ((4, 6), "out in"),
    ((4, 9), MuonDimensionNumbers(-2, -1)),
    ((10, 4), "in out"),
    ((2, 4, 6), "... in out"),
    ((4, 2, 3), "in out out"),
    ((4, 12), "in out[q k]"),
    ((4, 9), "in out[q=6 k=3]"),
    ((1, 5), "in out"),
    ((0, 4), "in out"),
    ((3, 0, 4), "layers in out"),
]
OTHERS = [((), None), ((5,), None), ((0,), None), ((4, 6), None)]

# What `scale_by_muon` takes, and what `muon` takes beside.
MOMENTUM = {
    "nesterov": st.booleans(),
    "bias_correction": st.booleans(),
    "heavy_ball": st.booleans(),
    "mu_dtype": st.sampled_from([None, "bfloat16", "float32"]),
    "beta": st.sampled_from([0.0, 0.9, 0.99, lambda step: 0.9 - 0.1 / (step + 1)]),
}
OPTIONS = {
    "learning_rate": st.sampled_from([0.1, lambda step: 0.1 / (step + 1)]),
    "weight_decay": st.sampled_from([0.0, 0.1, lambda step: 0.1 / (step + 1)]),
    "adam_weight_decay": st.sampled_from([0.0, 0.1]),
    "shape_scaling": st.sampled_from(sorted(SHAPE_SCALINGS)),
    "record_every": st.sampled_from([None, 2]),
}


def leaves(kinds, dtypes):
    return st.builds(
        lambda kind, dtype: Leaf(*kind, dtype), st.sampled_from(kinds), st.sampled_from(dtypes)
    )


def trees(leaf):
    """Nested in any way, with holes: None, and what optax masks."""
    names = st.sampled_from(["kernel", "w_1", "Norm", "b"])
    nodes = st.recursive(
        st.one_of(leaf, leaf, leaf, st.none(), st.just(optax.MaskedNode())),
        lambda node: st.one_of(
            st.dictionaries(names, node, max_size=3),
            st.lists(node, max_size=3),
            st.tuples(node, node),
            st.builds(Pair, node, node),
        ),
        max_leaves=6,
    )
    return st.dictionaries(names, nodes, max_size=4)


def specs(tree):
    """`dims` for a tree of `Leaf`s."""
    return jax.tree.map(lambda leaf: leaf.spec, tree)


def values(tree, seed=0):
    """Random arrays for a tree of `Leaf`s."""
    rng = np.random.default_rng(seed)

    def value(leaf):
        parts = rng.standard_normal((2, *leaf.shape))
        made = parts[0] + 1j * parts[1] if kind(leaf.dtype) is np.complex128 else parts[0]
        return jnp.asarray(made).astype(leaf.dtype)

    return jax.tree.map(value, tree)


def run(tx, grads):
    """The updates of every step, and the last state."""
    state, updates = tx.init(grads[0]), []
    for g in grads:
        update, state = tx.update(g, state, grads[0])
        updates.append(update)
    return updates, state


def same_bits(found, expected):
    return np.asarray(found).tobytes() == np.asarray(expected).tobytes()
