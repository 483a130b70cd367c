"""Other libraries' Muons: against what they computed themselves, and against their formulas."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import other_adam, other_muon

from muon_optax import MuonDimensionNumbers, MuonState, NewtonSchulz, muon
from muon_optax.coefficients import JORDAN
from muon_optax.compat import MODES, RoundedNewtonSchulz

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "parity_golden.npz"))
SHAPES = ("wide", "tall", "square")
RATE = 0.02

# Two units in the last place of a bfloat16 at 1, times the learning rate, are 3.13e-4. They
# are PyTorch's: its float32 momentum is off by a rounding, which moves one bfloat16 of 768.
ATOL = 3.2e-4


def in_flax(x, axis=0):
    """A weight `[out, in]` or OIHW as `[in, out]` or HWIO, behind `axis` leading axes."""
    order = (1, 0) if x.ndim - axis == 2 else (2, 3, 1, 0)
    return np.transpose(x, (*range(axis), *(axis + a for a in order)))


def in_torch(x):
    """The inverse of `in_flax`."""
    return np.transpose(x, (1, 0) if x.ndim == 2 else (3, 2, 0, 1))


def train(settings, weights, grads, rate=RATE):
    """Weights after every step, and the momenta: of each leaf in both layouts, all `[out, in]`.

    One tree, so that one compilation and one batch per shape serve all leaves.
    """
    tree, steps, dims = {}, {}, {}
    for name, w in weights.items():
        behind = tuple(range(1, w.ndim))
        tree |= {f"{name} torch": w, f"{name} flax": in_flax(w)}
        steps |= {f"{name} torch": grads[name], f"{name} flax": in_flax(grads[name], 1)}
        dims[f"{name} torch"] = MuonDimensionNumbers(behind, 0)
        dims[f"{name} flax"] = MuonDimensionNumbers(tuple(a - 1 for a in behind), w.ndim - 1)
    tx = muon(rate, dims=dims, **settings)
    params = jax.tree.map(jnp.asarray, tree)
    state, update = tx.init(params), tx.update
    after = {name: [] for name in tree}
    for t in range(min(map(len, steps.values()))):
        updates, state = update(
            {name: jnp.asarray(g[t]) for name, g in steps.items()}, state, params
        )
        params = optax.apply_updates(params, updates)
        for name, w in params.items():
            after[name].append(in_torch(w) if name.endswith("flax") else np.asarray(w))
    is_muon = lambda s: isinstance(s, MuonState)
    (found,) = filter(is_muon, jax.tree.leaves(state, is_leaf=is_muon))
    momenta = {n: in_torch(m) if n.endswith("flax") else m for n, m in found.mu.items()}
    return after, momenta


def deviations(found, expected):
    """The largest over all steps, leaf by leaf; `expected` has a leaf for both layouts."""
    return {
        name: max(np.abs(w - e).max() for w, e in zip(ws, expected[name.split()[0]]))
        for name, ws in found.items()
    }


# ---------------------------------------------------------- six steps that they computed

RULES = {"original": "jordan", "match_rms_adamw": "adam_rms"}
RUNS = {
    f"torch/nesterov={nesterov}/{adjust}": MODES["torch"]
    | {"nesterov": nesterov, "shape_scaling": rule}
    for nesterov in (True, False)
    for adjust, rule in RULES.items()
} | {"keller": MODES["keller"] | {"weight_decay": 0.1}}


MISTAKES = {
    "no decay": lambda s: {"weight_decay": 0.0},
    "twice the decay": lambda s: {"weight_decay": 2 * s["weight_decay"]},
    "beta": lambda s: {"beta": 0.9},
    "nesterov": lambda s: {"nesterov": not s["nesterov"]},
    "bias correction": lambda s: {"bias_correction": True},
    "shape": lambda s: {"shape_scaling": OTHER_RULE[s["shape_scaling"]]},
    "coefficients": lambda s: {"method": OTHER_COEFFICIENTS[type(s["method"])]},
}
OTHER_RULE = {"jordan": "adam_rms", "adam_rms": "jordan"}
OTHER_COEFFICIENTS = {
    RoundedNewtonSchulz: RoundedNewtonSchulz("torch", (3.4445, -4.7750, 2.0815)),
    NewtonSchulz: NewtonSchulz("you"),
}


def visible(settings):
    """The mistakes that show: without Nesterov's step bias correction is only a length."""
    return [m for m in MISTAKES if m != "bias correction" or settings["nesterov"]]


def golden_run(run, settings):
    """How far `settings` are off the run of that name, leaf by leaf."""
    names = [*SHAPES, "conv"] if run == "keller" else SHAPES
    grads = {name: GOLDEN[f"{name}/G"] for name in names}
    more = {n: np.zeros((6 - len(g), *g.shape[1:]), np.float32) for n, g in grads.items()}
    grads = {name: np.concatenate([g, more[name]]) for name, g in grads.items()}
    found, _ = train(settings, {name: GOLDEN[f"{name}/W0"] for name in names}, grads)
    return deviations(found, {name: GOLDEN[f"{name}/{run}"] for name in names})


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_six_steps_are_theirs_in_both_layouts(run):
    found = golden_run(run, RUNS[run])
    assert max(found.values()) < ATOL, found


@pytest.mark.parametrize(
    ("run", "mistake"),
    [
        (run, mistake)
        for run in ("torch/nesterov=True/original", "keller")
        for mistake in visible(RUNS[run])
    ],
)
def test_a_mistake_shows_in_every_leaf_after_six_steps(run, mistake):
    found = golden_run(run, RUNS[run] | MISTAKES[mistake](RUNS[run]))
    assert min(found.values()) > 3 * ATOL, found


# ------------------------------------------------------- ten steps of their formulas

FLOAT32 = {"method": NewtonSchulz(eps=1e-7, compute_dtype="float32"), "weight_decay": 1.0}
FORMULAS = {
    ("torch", nesterov, rule): MODES["torch"] | {"nesterov": nesterov, "shape_scaling": rule}
    for nesterov in (True, False)
    for rule in OTHER_RULE
} | {
    ("keller", True, "jordan"): MODES["keller"],
    ("moonlight", True, "adam_rms"): MODES["moonlight"],
}
SIDES = {"wide": (16, 48), "tall": (48, 16), "square": (32, 32), "conv": (8, 4, 3, 3)}


def formula_run(formula, settings, steps=10):
    """Steps beside NumPy in float64: deviations of weights and of momenta."""
    library, nesterov, rule = formula
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    weights = {name: 0.3 * draw(*shape) for name, shape in SIDES.items()}
    grads = {name: draw(steps, *shape) for name, shape in SIDES.items()}
    found, momenta = train(settings, weights, grads)
    options = {"nesterov": nesterov, "match_rms": rule == "adam_rms"}
    expected = {
        name: other_muon(library, w, grads[name], JORDAN.schedule(5), RATE, 1.0, **options)
        for name, w in weights.items()
    }
    ends = {name: [m] for name, m in momenta.items()}
    return (
        deviations(found, {name: e[0] for name, e in expected.items()}),
        deviations(ends, {name: [e[1]] for name, e in expected.items()}),
    )


@pytest.mark.slow
@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_ten_steps_equal_their_formula_in_float64(formula):
    weights, momenta = formula_run(formula, FORMULAS[formula] | FLOAT32)
    assert max(weights.values()) < 1e-6, weights
    assert max(momenta.values()) < 3e-6, momenta  # of numbers up to 13, in float32


@pytest.mark.parametrize(
    ("formula", "mistake"),
    [
        (f, m)
        for f in (("torch", False, "adam_rms"), ("moonlight", True, "adam_rms"))
        for m in visible(FORMULAS[f])
    ],
    ids=str,
)
def test_a_mistake_shows_in_every_leaf_after_four_steps(formula, mistake):
    settings = FORMULAS[formula] | FLOAT32
    weights, _ = formula_run(formula, settings | MISTAKES[mistake](settings), steps=4)
    assert min(weights.values()) > 1e-4, weights


@pytest.mark.parametrize("mode", MODES)
def test_momentum_is_a_heavy_ball_where_theirs_is(mode):
    settings = MODES[mode] | FLOAT32
    heavy = {"heavy_ball": not settings["heavy_ball"]}
    _, momenta = formula_run((mode, True, settings["shape_scaling"]), settings | heavy, steps=4)
    assert min(momenta.values()) > 0.1, momenta


def test_a_convolution_of_many_outputs_has_our_factor_not_keller_jordans():
    """√(O/(I·H·W)) here, √max(1, H/W) = 1 there."""
    g = np.random.default_rng(0).standard_normal((3, 3, 2, 72)).astype(np.float32)
    dims = {"w": MuonDimensionNumbers((0, 1, 2), 3)}
    tx = muon(1.0, dims=dims, **MODES["keller"])
    updates, _ = tx.update({"w": jnp.asarray(g)}, tx.init({"w": g}))
    direction = MODES["keller"]["method"].polar(jnp.asarray(0.0975 * g.reshape(18, 72)))
    np.testing.assert_allclose(updates["w"].reshape(18, 72), -2.0 * direction, atol=0.02)


# ----------------------------------------------------------- the other parameters: Adam


def adam_updates(settings, grads, rate):
    tx = muon(rate, dims={"w": MuonDimensionNumbers(0, 1), "b": None}, **settings)
    params = {"w": jnp.eye(2), "b": jnp.full(grads[0].shape, 2.0)}
    state, updates = tx.init(params), []
    update = jax.jit(tx.update) if len(grads) > 10 else tx.update
    for g in grads:
        u, state = update({"w": jnp.eye(2), "b": jnp.asarray(g, jnp.float32)}, state, params)
        updates.append(u["b"])
    return np.asarray(updates)


ADAM = {"keller": (3e-4, 0.9, 0.95, 1e-10), "moonlight": (0.5, 0.9, 0.95, 1e-8)}


@pytest.mark.parametrize("library", ADAM)
def test_the_fallback_is_their_adam(library):
    """In units of its learning rate; 0.5, and Moonlight's is that of its matrices."""
    grads = np.random.default_rng(0).standard_normal((10, 5))
    rate, *moments = ADAM[library]
    decay = {"keller": 0.0, "moonlight": 0.1 * 2.0}[library]
    expected = np.asarray(other_adam(library, grads, rate, *moments)) - rate * decay
    found = adam_updates(MODES[library], grads, 0.5)
    np.testing.assert_allclose(found / rate, expected / rate, atol=2e-6)
    for mistake in ({"adam_b1": 0.95}, {"adam_b2": 0.999}, {"adam_weight_decay": 0.3}):
        found = adam_updates(MODES[library] | mistake, grads, 0.5)
        assert np.abs(found / rate - expected / rate).max() > 0.01, mistake


@pytest.mark.parametrize("library", ADAM)
def test_their_epsilon_shows_in_small_gradients_once_the_biases_are_gone(library):
    rate, b1, b2, eps = ADAM[library]
    grads = np.full((200, 1), eps)
    settings = MODES[library] | {"adam_weight_decay": 0.0}
    expected = other_adam(library, grads, rate, b1, b2, eps)[-1] / rate
    np.testing.assert_allclose(expected, -0.5, atol=1e-4)
    found = adam_updates(settings, grads, 0.5)[-1] / rate
    np.testing.assert_allclose(found, expected, atol=1e-4)


# Keyword defaults of their constructors; Keller Jordan's Nesterov step is that of his function.
DEFAULTS = {
    "torch": (0.95, True, 0.1, "jordan"),
    "keller": (0.95, True, 0.0, "jordan"),
    "moonlight": (0.95, True, 0.1, "adam_rms"),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_names_every_setting_of_the_matrices(mode):
    """So that a default of ours may change without changing what a mode is."""
    names = ("beta", "nesterov", "weight_decay", "shape_scaling")
    assert tuple(MODES[mode][name] for name in names) == DEFAULTS[mode]
    assert {"method", "bias_correction", "heavy_ball"} <= set(MODES[mode])
