"""Whole transformations on trees that hypothesis draws: nesting, holes, specs, dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax
from properties import (
    MATRICES,
    MOMENTUM,
    OPTIONS,
    OTHERS,
    examples,
    leaves,
    run,
    same_bits,
    specs,
    trees,
    values,
)
from tolerances import tolerance

from muon_optax import METHODS, muon, scale_by_muon
from muon_optax.dims import view_of

DTYPES = ["float16", "bfloat16", "float32", "complex64"]


def types(tree):
    """Structure, shapes and dtypes, weak ones told apart."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def structs(tree, wide=False, weak=False):
    """Of a tree of `Leaf`s, in float32 or wider, or of weak types as `jnp.full` makes them."""

    def struct(leaf):
        dtype = jnp.promote_types(leaf.dtype, "float32") if wide else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, weak_type=weak)

    return jax.tree.map(struct, tree)


def check_types(tx, params, grads):
    """Under `lax.scan` and `lax.cond` as well, which refuse all else; nothing is computed."""

    def run(params, grads):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (optax.apply_updates(params, updates), state), None

        state = tx.init(params)
        updates, after = tx.update(grads, state, params)
        lax.cond(True, lambda: tx.update(grads, state, params)[1], lambda: state)
        lax.scan(step, (params, state), jax.tree.map(lambda g: jnp.stack([g, g]), grads), 2)
        return params, state, after, updates

    params, state, after, updates = jax.eval_shape(run, params, grads)
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, params)
    assert types(after) == types(state)
    assert not any(x.weak_type for x in jax.tree.leaves((updates, after)))


@examples(15)
@given(
    trees(leaves(MATRICES, DTYPES)),
    st.fixed_dictionaries(MOMENTUM),
    st.booleans(),
    st.booleans(),
)
def test_the_momentum_keeps_its_types_whatever_those_of_gradients(tree, options, wide, weak):
    tx = scale_by_muon(dims=specs(tree), **options)
    check_types(tx, structs(tree, weak=weak), structs(tree, wide=wide))


@examples(15)
@given(trees(leaves(MATRICES + OTHERS, DTYPES)), st.fixed_dictionaries(MOMENTUM | OPTIONS))
def test_updates_are_like_parameters_and_states_stay_like_states(tree, options):
    assume(not jax.tree.leaves(tree) or any(leaf.spec for leaf in jax.tree.leaves(tree)))
    check_types(muon(dims=specs(tree), **options), structs(tree), structs(tree))


@examples(8)
@given(
    trees(leaves(MATRICES, ["float32", "bfloat16"])),
    st.fixed_dictionaries(MOMENTUM),
    st.sampled_from(["jordan", "near_exact", "svd"]),
)
def test_names_nesting_and_neighbours_of_a_leaf_change_no_bit_of_it(tree, options, method):
    """What shares a call shares no number. (Under `jax.jit` XLA may fuse another momentum.)"""
    grads = values(tree, seed=1), values(tree, seed=2)
    tx = scale_by_muon(METHODS[method], dims=specs(tree), **options)
    updates, state = run(tx, grads)
    drawn = jax.tree.leaves(tree)
    together = zip(*map(jax.tree.leaves, (updates[-1], state.mu)))
    for leaf, found, *g in zip(drawn, together, *map(jax.tree.leaves, grads), strict=True):
        tx = scale_by_muon(METHODS[method], dims=leaf.spec, **options)
        alone, state = run(tx, g)
        for one, other in zip(found, (alone[-1], state.mu), strict=True):
            assert same_bits(one, other), leaf


@examples(12)
@given(trees(leaves(MATRICES, ["float32", "complex64"])), st.sampled_from(["jordan", "svd"]))
def test_updates_are_the_polar_factors_of_the_matrices_that_specs_say(tree, method):
    grads, method = values(tree), METHODS[method]
    tx = scale_by_muon(method, beta=0.0, dims=specs(tree))
    (updates,), _ = run(tx, [grads])
    for leaf, *pair in zip(*map(jax.tree.leaves, (tree, grads, updates)), strict=True):
        view = view_of(leaf.spec, "", pair[0])
        for g, found in zip(*map(view.to_matrices, pair), strict=True):
            atol = tolerance(method, g.dtype, g.shape)
            np.testing.assert_allclose(found, method.polar(g), atol=atol)


@examples(3)
@given(trees(leaves(MATRICES + OTHERS, DTYPES)), st.fixed_dictionaries(MOMENTUM | OPTIONS))
def test_parameters_and_state_may_be_donated(tree, options):
    leaves = jax.tree.leaves(tree)
    assume(any(leaf.spec and 0 not in leaf.shape for leaf in leaves))
    tx = muon(dims=specs(tree), **options)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, grads = values(tree, seed=1), values(tree, seed=2)
    state = tx.init(params)
    given = [x for x in jax.tree.leaves((params, state)) if x.size]
    after = step(params, state, grads)
    assert all(x.is_deleted() for x in given)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after))
