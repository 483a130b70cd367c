"""Measured spectra: read from a state, and what `plan` makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from muon_optax import FLAX, SVD, NewtonSchulz, diagnostics, muon, plan, scale_by_muon, theory
from muon_optax.diagnostics import record_updates


def spectra_of(grads, **options):
    """Of the momentum after one step; the plan and the spectra."""
    tx = muon(0.02, **options)
    _, state = tx.update(grads, tx.init(grads), grads)
    return diagnostics.spectra(grads, state, options.get("dims", FLAX))


def test_a_leaf_whose_spectrum_five_steps_miss_is_found():
    rng = np.random.default_rng(0)
    flat = jnp.asarray(rng.standard_normal((96, 32)), jnp.float32)
    steep = jnp.diag(jnp.array([1.0] + 31 * [0.005]))
    grads = {"flat": {"kernel": flat}, "steep": {"kernel": steep}, "bias": jnp.ones(3)}
    spectra = spectra_of(grads)
    found = plan(grads, method="taylor2:5", spectra=spectra, cosine=0.95)
    leaves = {leaf.path: leaf for leaf in found.leaves}
    assert leaves["flat/kernel"].needed.steps <= 5 < leaves["steep/kernel"].needed.steps
    assert leaves["flat/kernel"].factor < 1.1 < leaves["steep/kernel"].factor
    assert leaves["flat/kernel"].cosine > 0.95 > leaves["steep/kernel"].cosine
    assert leaves["bias"].factor is leaves["bias"].needed is None
    head, _, *lines = str(found).splitlines()
    assert head.split()[-3:-1] == ["cosine", "needs"]
    assert lines[2].split()[-2] == f"taylor2:{leaves['steep/kernel'].needed.steps}"
    assert "–" in str(plan(grads, method="jordan:1", spectra=spectra, cosine=0.9999))
    assert "factor" not in str(plan(grads)).splitlines()[0]


def test_the_cheapest_of_several_families_is_chosen_and_muon_takes_what_plan_found():
    rng = np.random.default_rng(0)
    steep = {"kernel": jnp.diag(jnp.array([1.0] + 31 * [0.02]))}
    grads = {"a": {"kernel": jnp.asarray(rng.standard_normal((96, 32)))}, "b": steep}
    families = ("taylor2", "cans", "polar_express")
    given = dict(spectra=spectra_of(grads), cosine=0.95, families=families)
    chosen = plan(grads, **given).methods
    one_family = [plan(grads, **given | {"families": [family]}).methods for family in families]
    for path, (m, n) in {"a/kernel": (96, 32), "b/kernel": (32, 32)}.items():
        costs = [methods[path].plan(m, n).flops for methods in one_family]
        assert chosen[path].plan(m, n).flops == min(costs) < max(costs)
    tx = muon(0.02, chosen)
    tx.update(grads, tx.init(grads), grads)
    found = plan(grads, method=chosen, spectra=given["spectra"])
    assert min(leaf.cosine for leaf in found.leaves) >= 0.95


def test_every_matrix_of_a_leaf_has_a_spectrum_and_the_worst_one_counts():
    steep = jnp.diag(jnp.array([1.0, 0.01, 0.01, 0.01])) @ jnp.eye(4, 6)
    grads, spec = jnp.stack([jnp.eye(4, 6), steep]), "layers in out[q=3 k=3]"
    (of_leaf,) = spectra_of(grads, dims=spec).values()
    assert [x.shape for x in of_leaf] == 4 * [(3,)]

    def measure(spectra):
        (leaf,) = plan(grads, spec, method="jordan:3", spectra={"": spectra}).leaves
        return leaf.factor, -leaf.cosine

    each = zip(*(measure([x]) for x in of_leaf if x.any()))
    for worst, found in zip(measure(of_leaf), each):
        assert worst == max(found) > min(found) + 1e-3


def test_steps_are_enough_for_all_matrices_of_a_leaf():
    """Jordan's cosine is not monotone in the steps: what one matrix needs may fail another."""
    params, rng = {"kernel": jnp.ones((2, 8, 8))}, np.random.default_rng(0)
    for _ in range(20):
        spectra = [np.sort(rng.uniform(0, 1, 8) ** 3)[::-1] for _ in range(2)]
        found = plan(params, "layers in out", spectra={"kernel": spectra}, cosine=0.96)
        if method := found.leaves[0].needed:
            again = plan(params, "layers in out", method=method, spectra={"kernel": spectra})
            assert again.leaves[0].cosine >= 0.96


def test_a_recorded_run_has_the_quantiles_of_what_it_orthogonalized(key):
    grads = {"w": jax.random.normal(key, (3, 24, 40)), "fused": jnp.diag(jnp.arange(1.0, 25))}
    dims = {"w": "layers in out", "fused": "in out[q=16 k=8]"}
    tx = record_updates(2, optax.identity(), NewtonSchulz(), measures=(), dims=dims)
    _, state = jax.jit(tx.update)(grads, tx.init(grads), grads)
    _, state = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, grads), state)  # not recorded
    found = diagnostics.spectra(grads, state, dims)
    assert [len(x) for x in found["fused"]] == [16, 8]
    levels = np.linspace(1, 0, 17)
    for x, sigma in zip(
        [*grads["w"], *jnp.split(grads["fused"], [16], 1)], found["w"] + found["fused"]
    ):
        exact = np.linalg.svd(x, compute_uv=False)
        at_levels = np.log(np.quantile(exact, levels, method="lower"))
        expected = np.interp(np.linspace(1, 0, len(exact)), levels[::-1], at_levels[::-1])
        np.testing.assert_allclose(sigma, np.exp(expected), rtol=1e-5)


@pytest.mark.parametrize("kind", ["rank 8", "steep"])
def test_a_record_leads_to_nearly_the_steps_of_an_svd(kind, key):
    """Of a matrix of low rank, and of one whose singular values fall by five decades."""
    if kind == "rank 8":
        x = jax.random.normal(key, (64, 8)) @ jax.random.normal(jax.random.key(1), (8, 128))
    else:
        x = jnp.diag(jnp.geomspace(1, 1e-5, 64))
    params, found = {"w": {"kernel": x}}, []
    for options in ({"record_every": 1}, {}):
        tx = muon(0.1, beta=0.0, nesterov=False, **options)
        _, state = tx.update(params, tx.init(params), params)
        spectra = diagnostics.spectra(params, state)
        (leaf,) = plan(params, spectra=spectra, method="polar_express:5", cosine=0.95).leaves
        found.append((leaf.cosine, leaf.needed.steps))
    (recorded, steps), (exact, exact_steps) = found
    assert abs(recorded - exact) < 0.02 and abs(steps - exact_steps) <= 1


def test_spectra_before_the_first_record_are_none_and_other_dims_are_refused():
    params = {"embedding": jnp.ones((8, 4)), "up": {"kernel": jnp.ones((4, 6))}}
    spec = {"embedding": None, "up": "in out"}
    state = muon(0.1, record_every=3, dims=spec).init(params)
    assert diagnostics.spectra(params, state, spec) == {}
    with pytest.raises(
        ValueError, match="momentum for leaf 'embedding', but this leaf is not a matrix"
    ):
        diagnostics.spectra(params, scale_by_muon().init(params))
    fused = {"embedding": None, "up": "in out[q=3 k=3]"}
    tx = muon(0.1, record_every=1, dims=fused)
    _, state = tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="leaf 'up/kernel' has 1 matrices under"):
        diagnostics.spectra(params, state, spec)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_spectra_of_a_mesh_are_those_of_one_device(kind):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
    grads = jax.random.normal(jax.random.key(0), (2, 8, 8), "bfloat16")
    cut = jax.device_put(grads, NamedSharding(mesh, P(None, "a", "b")))
    spec = "layers in out[q=4 k=4]"
    state = scale_by_muon(dims=spec).init(grads)._replace(mu=cut)
    expected = diagnostics.spectra(grads, state._replace(mu=grads), spec)[""]
    np.testing.assert_array_equal(diagnostics.spectra(cut, state, spec)[""], expected)


def test_spectra_of_other_leaves_or_methods_are_refused():
    params = {"up": {"kernel": jnp.eye(4)}}
    params["up"]["bias"] = jnp.ones(4)
    for path in ("down", "up/bias"):
        with pytest.raises(ValueError, match=f"`spectra` has '{path}', .* such as 'up/kernel'"):
            plan(params, spectra={path: [[1.0]]})
    with pytest.raises(ValueError, match="spectra of 'up/kernel': "):
        plan(params, spectra={"up/kernel": [[np.nan]]})
    with pytest.raises(ValueError, match="one of frobenius, schatten4"):
        plan(params, method=NewtonSchulz(normalize="aol"), spectra={"up/kernel": [[1.0]]})
    with pytest.raises(ValueError, match="no certificate; use NewtonSchulz"):
        plan(params, method=SVD(), spectra={"up/kernel": [[1.0]]})


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"cosine": 1.0}, r"cosine=1.0; use a number in \(0, 1\)"),
        ({"families": ("polar_expres",)}, "unknown family 'polar_expres'"),
        ({"spectra": {"kernel": np.linspace(1, 0.1, 4)}}, "use a list with one array"),
    ],
)
def test_a_choice_that_cannot_be_made_is_named(wrong, error):
    given = {"spectra": {"kernel": [np.linspace(1, 0.1, 4)]}} | wrong
    with pytest.raises(ValueError, match=error):
        plan({"kernel": jnp.ones((4, 6))}, **given)


def test_one_family_may_be_a_name():
    params, spectra = {"kernel": jnp.ones((4, 6))}, {"kernel": [np.linspace(1, 0.1, 4)]}
    (leaf,) = plan(params, spectra=spectra, families="polar_express").leaves
    assert leaf.needed.coefficients.name == "polar_express"


def test_zeros_do_not_count_for_the_cosine_and_a_zero_update_has_none():
    assert theory.cosine((), [1.0, 0.0]) == theory.cosine((), [1.0, 1e-9]) == 1
    assert theory.cosine(((0.0, 1.0, -1.0),), [1.0]) == 0
    assert theory.cosine((), [3.0, 4.0]) == pytest.approx(7 / 5 / 2**0.5)


def test_methods_that_differ_have_lines_of_their_own_and_are_not_counted_together():
    stage = (3.4445, -4.775, 2.0315)
    params = {f"l_{i}": {"kernel": jnp.ones((8, 16))} for i in range(2)}
    rules = {f"l_{i}": NewtonSchulz((stage,) * (5 + i)) for i in range(2)}
    assert "l_{0..1}" not in str(plan(params, method=rules))
    counted = str(plan(params, method={"l_0": "svd", "l_1": "jordan"}))
    assert "not counting 1 leaf of unknown cost" in counted
