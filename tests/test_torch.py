"""Ten steps of PyTorch's own Muon; conftest.py leaves this out where PyTorch is not."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_compat_modes import ATOL, FORMULAS, MISTAKES, RATE, RULES, SIDES, deviations, train
from torch.optim._muon import _zeropower_via_newtonschulz

from muon_optax.compat import MODES, RoundedNewtonSchulz, from_torch

pytestmark = pytest.mark.slow

CASES = [(nesterov, rule) for library, nesterov, rule in FORMULAS if library == "torch"]


def data():
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    sides = {name: shape for name, shape in SIDES.items() if len(shape) == 2}
    weights = {name: 0.3 * draw(*shape) for name, shape in sides.items()}
    return weights, {name: draw(10, *shape) for name, shape in sides.items()}


def torch_run(w, grads, nesterov, rule):
    """`torch.optim.Muon`: weights after every step, the momentum buffer at the end."""
    adjust = {ours: theirs for theirs, ours in RULES.items()}[rule]
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.Muon(
        [parameter], lr=RATE, weight_decay=1.0, nesterov=nesterov, adjust_lr_fn=adjust
    )
    weights = []
    for g in grads:
        parameter.grad = torch.tensor(g)
        optimizer.step()
        weights.append(parameter.detach().numpy().copy())
    return weights, optimizer.state[parameter]["momentum_buffer"].numpy()


@functools.cache
def torch_runs(nesterov, rule):
    weights, grads = data()
    return {name: torch_run(w, grads[name], nesterov, rule) for name, w in weights.items()}


def both(nesterov, rule, settings):
    theirs = torch_runs(nesterov, rule)
    weights, grads = data()
    found, momenta = train(settings, weights, grads)
    ends = deviations(
        {n: [m] for n, m in momenta.items()}, {n: [t[1]] for n, t in theirs.items()}
    )
    return deviations(found, {name: t[0] for name, t in theirs.items()}), ends


def test_the_mode_has_torchs_defaults():
    theirs = torch.optim.Muon([torch.nn.Parameter(torch.ones(2, 2))]).defaults
    ours, method = MODES["torch"], MODES["torch"]["method"]
    assert ours["shape_scaling"] == RULES[theirs["adjust_lr_fn"] or "original"]
    for name, found in {
        "momentum": ours["beta"],
        "nesterov": ours["nesterov"],
        "weight_decay": ours["weight_decay"],
        "ns_coefficients": method.coefficients,
        "ns_steps": method.steps,
        "eps": method.eps,
    }.items():
        assert found == theirs[name], name


@pytest.mark.parametrize(("nesterov", "rule"), CASES)
def test_ten_steps_are_torchs_in_both_layouts(nesterov, rule):
    settings = FORMULAS["torch", nesterov, rule] | {"weight_decay": 1.0}
    weights, momenta = both(nesterov, rule, settings)
    assert max(weights.values()) < ATOL, weights
    assert max(momenta.values()) < 1e-6, momenta


def test_a_state_dict_of_torchs_own_tensors_is_read_bfloat16_too():
    weight = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    optimizer = torch.optim.Muon([weight], lr=RATE)
    weight.grad = torch.arange(6.0).reshape(3, 2).bfloat16()
    optimizer.step()
    params = {"kernel": jnp.zeros((2, 3), jnp.bfloat16)}
    ours, _ = from_torch(optimizer.state_dict(), ["kernel"], params, count=1)
    theirs = optimizer.state[weight]["momentum_buffer"].float().numpy()
    assert theirs.any() and ours.mu["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours.mu["kernel"], theirs.T)


@pytest.mark.parametrize("mistake", ["no decay", "beta", "nesterov", "shape", "coefficients"])
def test_ten_steps_see_a_mistake_in_every_leaf(mistake):
    settings = FORMULAS["torch", True, "jordan"] | {"weight_decay": 1.0}
    weights, _ = both(True, "jordan", settings | MISTAKES[mistake](settings))
    assert min(weights.values()) > 3 * ATOL, weights


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1e-7, 1e-6, 1e6])
@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)], ids=str)
def test_newton_schulz_is_torchs_at_every_scale(shape, scale):
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    x *= np.float32(scale / np.linalg.norm(x))
    theirs = _zeropower_via_newtonschulz(torch.tensor(x), (3.4445, -4.775, 2.0315), 5, 1e-7)
    found = RoundedNewtonSchulz("torch").polar(jnp.asarray(x.T)).T
    # To the bit, but where the order of a float32 sum moves its rounding to bfloat16.
    np.testing.assert_allclose(found, theirs.float().numpy(), atol=2**-7)
