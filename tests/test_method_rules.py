"""A method for each leaf, by rules from its path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from muon_optax import METHODS, SVD, NewtonSchulz, muon, orthogonalize, plan, scale_by_muon
from muon_optax.diagnostics import latest, record_updates

SHAPES = {"attn": {"q": (8, 16), "k": (8, 16)}, "mlp": {"up": (8, 16), "down": (16, 8)}}
RULES = {"attn": "svd", "mlp/down": "polar_express:8", ".*": "jordan"}
METHOD_OF = {
    "attn": {"q": SVD(), "k": SVD()},
    "mlp": {"up": METHODS["jordan"], "down": NewtonSchulz("polar_express", 8)},
}
SPECS = {"attn": "in out", "mlp": "in out", "bias": None}


def is_shape(x):
    return isinstance(x, tuple)


@pytest.fixture
def grads(key):
    def draw(path, shape):
        return jax.random.normal(jax.random.fold_in(key, len(str(path))), shape)

    return jax.tree.map_with_path(draw, SHAPES, is_leaf=is_shape)


def on_mesh(x):
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices("cpu")[:4])
    return jax.device_put(x, NamedSharding(mesh, P("a", "b")))


@pytest.mark.parametrize("place", ["one device", "mesh"])
def test_every_leaf_gets_the_polar_factor_of_its_method(grads, place):
    cut = jax.tree.map(on_mesh, grads) if place == "mesh" else grads
    tx = scale_by_muon(RULES, nesterov=False)
    updates, _ = tx.update(cut, tx.init(cut), cut)

    def check(update, x, method, placed):
        np.testing.assert_allclose(update, orthogonalize(x, method), atol=2e-5)
        assert update.sharding == placed.sharding

    jax.tree.map(check, updates, grads, METHOD_OF, cut)


def test_leaves_of_one_method_share_its_products(grads):
    def count(method):
        tx = scale_by_muon(method)
        lowered = jax.jit(tx.update).lower(grads, tx.init(grads))
        return lowered.compile().as_text().count(" dot(")

    for rules in ({".*": "jordan"}, {"attn/q": "jordan", "mlp": "jordan", ".*": "jordan"}):
        assert count(rules) == count("jordan")
    assert count({"attn": "jordan:3", ".*": "jordan:4"}) > count("jordan:4")


def test_the_rule_of_a_whole_path_goes_first_and_then_the_first_that_fits(grads):
    def methods(rules):
        return plan(grads, None, method=rules).methods

    found = methods({".*": "jordan", "attn/q": "svd", "attn": "fast"})
    assert found.pop("attn/q") == SVD() and {*found.values()} == {METHODS["jordan"]}
    found = methods({"attn": "fast", "attn/k|mlp/up": "svd", "down": "svd"})
    assert found["attn/k"] == METHODS["fast"] and found["mlp/up"] == SVD()


def test_a_run_with_rules_is_recorded_leaf_by_leaf(grads):
    """Momenta and what does not depend on the method are as with one method for all."""
    states = {}
    for name, method in (("rules", RULES), ("one", "jordan")):
        tx = record_updates(1, optax.ema(0.5), method)
        state = tx.init(grads)
        for factor in (1.0, -3.0):
            _, state = jax.jit(tx.update)(
                jax.tree.map(lambda x, f=factor: f * x + 1, grads), state, grads
            )
        states[name] = state
    measured = {name: latest(state)[1] for name, state in states.items()}
    for path, of_leaf in measured["rules"].items():
        for same in ("gradient_cosine", "momentum_stable_rank"):
            assert of_leaf[same] == pytest.approx(measured["one"][path][same], rel=1e-5)
    errors = {path: of["orthogonality_error"] for path, of in measured["rules"].items()}
    assert errors["mlp/up"] > 0.05 and max(errors["attn/q"], errors["mlp/down"]) < 1e-3
    momenta = (
        scale_by_muon(m).update(grads, scale_by_muon(m).init(grads))[1].mu
        for m in (RULES, "svd")
    )
    jax.tree.map(np.testing.assert_array_equal, *momenta)


def test_a_path_that_is_no_regular_expression_may_be_a_rule():
    params = {name: {"w": jnp.eye(4)} for name in ("c++", "Dense(1", "x[0]")}
    methods = plan(params, None, method={"x[0]/w": "svd", ".*": "fast"}).methods
    assert methods["x[0]/w"] == SVD() and methods["c++/w"] == METHODS["fast"]
    scale_by_muon(methods).init(params)
    assert plan(params, None, method=methods).methods == methods


def test_rules_are_kept_under_injected_hyperparameters(grads):
    params = {**grads, "bias": jnp.ones(3)}
    tx = optax.inject_hyperparams(muon)(learning_rate=0.1, method=RULES, dims=SPECS)
    plain = muon(0.1, RULES, dims=SPECS)
    updates, expected = (t.update(params, t.init(params), params)[0] for t in (tx, plain))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), updates, expected)


@pytest.mark.parametrize(
    "rules, error",
    [
        (
            {"attn": "svd"},
            r"'mlp/down' .*no rule of `method` matches it; add a rule .* '\.\*': 'jordan'",
        ),
        (
            {"atn": "svd", ".*": "jordan"},
            "`method` has 'atn', which matches no path; did you .*'attn",
        ),
        ({"attn": "jordn", ".*": "svd"}, "unknown name 'jordn'.*did you mean 'jordan'"),
        ({"(": "svd", ".*": "jordan"}, r"has '\(', which matches no path"),
        ({}, "use rules from paths to methods"),
        ({0: "svd"}, "use rules from paths to methods"),
    ],
)
def test_a_rule_that_cannot_be_right_is_an_error_at_once(grads, rules, error):
    with pytest.raises(ValueError, match=error):
        scale_by_muon(rules).init(grads)
    with pytest.raises(ValueError, match=error):
        plan(grads, None, method=rules)


def test_a_rule_may_name_a_leaf_that_optax_has_masked(grads):
    masked = {**grads, "attn": optax.MaskedNode()}
    scale_by_muon({"attn": "svd", ".*": "jordan"}).init(masked)
