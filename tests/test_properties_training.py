"""What training relies on, whatever hypothesis draws: scale, descent, decay, routes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import (
    MATRICES,
    MOMENTUM,
    OPTIONS,
    OTHERS,
    examples,
    leaves,
    run,
    same_bits,
    short_numbers,
    specs,
    trees,
    values,
    with_spectra,
)

from muon_optax import (
    METHODS,
    muon,
    plan,
    scale_by_muon,
    scale_by_shape,
    theory,
)
from muon_optax._leaves import LeafError


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
@examples(8)
@given(st.data())
def test_a_power_of_two_in_all_gradients_changes_no_bit_of_an_update(dtype, data):
    """From 2^-100 to 2^110, for whole numbers up to 127; rounding leaves small parts."""
    grads = [data.draw(short_numbers((3, 8), dtype)) for _ in range(3)]
    options = data.draw(st.fixed_dictionaries(MOMENTUM))
    method = METHODS[data.draw(st.sampled_from(["jordan", "fast", "svd"]))]
    tx = scale_by_muon(method, dims="batch in out", **options)

    def updates(exponent):
        return run(tx, [jnp.asarray(g * 2.0**exponent, dtype) for g in grads])[0]

    found = updates(data.draw(st.integers(-100, 110)))
    for one, other in zip(found, updates(0), strict=True):
        assert same_bits(one, other)


@examples(3)
@given(
    trees(leaves(MATRICES + OTHERS, ["float32", "complex64"])),
    st.fixed_dictionaries(MOMENTUM),
    st.fixed_dictionaries(OPTIONS | {"weight_decay": st.sampled_from([0.0, 0.1])}),
)
def test_muon_is_what_optax_makes_of_its_parts(tree, momentum, options):
    """Bit for bit: `optax.partition` of chains, a leaf in exactly one of them."""
    drawn = jax.tree.leaves(tree)
    assume(any(leaf.spec for leaf in drawn))
    dims = specs(tree)
    labels = jax.tree.map(lambda leaf: "fallback" if leaf.spec is None else "matrix", tree)
    masked = jax.tree.map(lambda leaf: leaf.spec or optax.MaskedNode(), tree)
    rate = options["learning_rate"]
    by_hand = optax.partition(
        {
            "matrix": optax.chain(
                scale_by_muon(dims=masked, **momentum),
                scale_by_shape(options["shape_scaling"], dims=masked),
                optax.add_decayed_weights(options["weight_decay"]),
                optax.scale_by_learning_rate(rate),
            ),
            "fallback": optax.adamw(rate, weight_decay=options["adam_weight_decay"]),
        },
        labels,
    )
    grads = values(tree, seed=1), values(tree, seed=2)
    ours = run(muon(dims=dims, **momentum, **options), grads)[0]
    for one, other in zip(*map(jax.tree.leaves, (ours, run(by_hand, grads)[0])), strict=True):
        assert same_bits(one, other)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["svd", "jordan", "near_exact"])
@examples(12)
@given(st.data())
def test_a_step_of_the_certified_length_descends_on_any_quadratic(name, data):
    """By half of the first-order gain at least, for `f(W) = ⟨W-C, A·(W-C)·B⟩/2`."""
    a, b, c = (data.draw(with_spectra(shape, "float64")) for shape in ((3, 3), (5, 5), (3, 5)))
    a, b = a @ a.mT, b @ b.mT
    method, rank = METHODS[name], 3
    kept, size = 1.0, 1.0
    if name != "svd":
        kept, size = theory.certificate(method.schedule, rank=rank, normalize=method.normalize)
    gradient = a @ -c @ b
    nuclear = np.linalg.svd(gradient, compute_uv=False).sum(-1)
    smooth = np.linalg.norm(a, 2, axis=(1, 2)) * np.linalg.norm(b, 2, axis=(1, 2))

    def loss(w):
        return ((w - c) * (a @ (w - c) @ b)).sum((1, 2)) / 2

    w = jnp.zeros_like(c)
    tx = muon(1.0, method, beta=0.0, shape_scaling="none", dims="batch in out")
    update, _ = tx.update(jnp.asarray(gradient), tx.init(w), w)
    for i in np.flatnonzero(smooth * nuclear > 1e-9):
        eta = kept * nuclear[i] / (smooth[i] * rank * size**2)
        descent = loss(0 * c)[i] - loss(eta * np.asarray(update))[i]
        assert descent >= 0.5 * eta * kept * nuclear[i] * (1 - 1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
@examples(8)
@given(st.data())
def test_without_a_gradient_weights_shrink_by_the_decay_and_nothing_else(dtype, data):
    """Exactly, for rates and decays that are powers of two."""
    w = jnp.asarray(data.draw(short_numbers((3, 8), dtype)), dtype)
    rate, decay = (2.0 ** -data.draw(st.integers(0, 3)) for _ in range(2))
    tx = muon(rate, weight_decay=decay, dims="batch in out")
    updates, state = tx.update(jnp.zeros_like(w), tx.init(w), w)
    np.testing.assert_array_equal(updates, -rate * decay * w)
    momenta = [x for x in jax.tree.leaves(state) if x.shape == w.shape]
    assert momenta and not any(m.any() for m in momenta)


PATHS = [
    *("Dense_0/kernel", "Dense_0/bias", "LayerNorm_0/scale", "Conv_0/kernel", "w", "foo"),
    *("Embed_0/embedding", "wte", "lm_head/kernel", "router/kernel", "layers/0/weight"),
    *("attention/query/kernel", "attention/query/bias", "attention/out/kernel", "experts/w_in"),
]
SHAPES = [(), (4,), (4, 4), (2, 4), (2, 4, 4), (4, 2, 2), (2, 2, 4, 4)]


class Nothing:
    """A polar method whose updates are zero."""

    def polar(self, x):
        return jnp.zeros_like(x)


@pytest.mark.filterwarnings("ignore:muon_optax is not sure")
@examples(20)
@given(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(SHAPES), max_size=6))
def test_every_leaf_has_one_optimizer_and_the_plan_says_which(drawn):
    """Or is refused by its name, or none is a matrix: then in the plan as well."""
    params = {path: jnp.ones(shape) for path, shape in drawn.items()}
    tx = muon(1.0, Nothing(), fallback=optax.sgd(1.0))
    try:
        updates = run(tx, [params])[0][0]
    except ValueError as error:
        named = isinstance(error, LeafError) and error.path in params
        assert named or "muon has no matrix to train" in str(error)
        return
    planned = plan(params).leaves if params else ()
    assert sum(leaf.size for leaf in planned) == sum(p.size for p in params.values())
    for leaf in planned:
        trained = {"Muon": 0, "fallback": -1}[leaf.optimizer]
        assert (updates[leaf.path] == trained).all()
        assert bool(leaf.matrices) == (leaf.optimizer == "Muon")
