"""What a user meets before the first step: help, words of other libraries, errors."""

import inspect
import pickle
import pydoc
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import muon_optax
from muon_optax import (
    FAMILIES,
    LAYOUTS,
    METHODS,
    NewtonSchulz,
    Rule,
    add_cautious_weight_decay,
    compat,
    muon,
    orthogonalize,
    place_state,
    plan,
    scale_by_muon,
)
from muon_optax._keywords import HINTS

# 0.123 would show that an error prints a parameter.
PARAMS = {"layer": {"kernel": jnp.full((64, 256), 0.123), "bias": jnp.full(256, 0.123)}}
KERNEL = PARAMS["layer"]["kernel"]


def as_dtype(x):
    """NumPy takes an array for its dtype."""
    return x if isinstance(x, dict) else "int8"


MISPLACED = {
    "learning_rate": lambda x: muon(x),
    "method": lambda x: muon(0.1, x),
    "method of a rule": lambda x: muon(0.1, {"attn": x}),
    "beta": lambda x: muon(0.1, beta=x),
    "weight_decay": lambda x: muon(0.1, weight_decay=x),
    "weight_decay_mask": lambda x: muon(0.1, weight_decay_mask=x),
    "dims": lambda x: muon(0.1, dims=x).init(PARAMS),
    "exclude": lambda x: muon(0.1, exclude=x),
    "mu_dtype": lambda x: muon(0.1, mu_dtype=as_dtype(x)),
    "record_every": lambda x: muon(0.1, record_every=x),
    "on_nonfinite": lambda x: muon(0.1, on_nonfinite=x),
    "shape_scaling": lambda x: muon(0.1, shape_scaling=x),
    "shardings": lambda x: muon(0.1, shardings=x).init(PARAMS),
    "fallback": lambda x: muon(0.1, fallback=x),
    "adam_b1": lambda x: muon(0.1, adam_b1=x),
    "adam_weight_decay_mask": lambda x: muon(0.1, adam_weight_decay_mask=x),
    "plan's dims": lambda x: plan(PARAMS, x),
    "plan's learning_rate": lambda x: plan(PARAMS, learning_rate=x),
    "plan's cosine": lambda x: plan(PARAMS, cosine=x),
    "scale_by_muon": lambda x: scale_by_muon(x),
    "place_state": lambda x: place_state(muon(0.1), x).init(PARAMS),
    "a decay": lambda x: add_cautious_weight_decay(x),
    "a rule": lambda x: Rule("role", "name", x),
    "a family": lambda x: NewtonSchulz({"a": x}),
    "steps": lambda x: NewtonSchulz(steps=x),
    "eps": lambda x: NewtonSchulz(eps=x),
    "compute_dtype": lambda x: NewtonSchulz(compute_dtype=as_dtype(x)),
    "orthogonalize": lambda x: orthogonalize(KERNEL, x),
    "compat.muon": lambda x: compat.muon(0.1, preconditioning=x),
}


@pytest.mark.parametrize("place", MISPLACED)
@pytest.mark.parametrize(
    "given", [PARAMS, KERNEL, np.asarray(KERNEL)], ids=["tree", "jax", "numpy"]
)
def test_an_error_names_parameters_in_a_wrong_place_without_their_numbers(place, given):
    with pytest.raises(ValueError) as error:
        MISPLACED[place](given)
    assert "0.123" not in str(error.value) and len(str(error.value)) < 400
    assert any(what in str(error.value) for what in ("array of shape", "<dict with", "int8"))


@pytest.mark.parametrize(
    ("names", "misspelt", "nearest"),
    [
        (METHODS, "fsat", "fast"),
        (LAYOUTS, "equinoks", "equinox"),
        (FAMILIES, "jrdan", "jordan"),
        (compat.MODES, "kller", "keller"),
    ],
    ids=["METHODS", "LAYOUTS", "FAMILIES", "MODES"],
)
def test_a_table_of_names_says_what_there_is(names, misspelt, nearest):
    with pytest.raises(KeyError) as error:
        names[misspelt]
    assert str(sorted(names)) in str(error.value)
    assert f"did you mean '{nearest}'?" in str(error.value)
    assert nearest in names and misspelt not in names and names.get(misspelt) is None


@pytest.mark.parametrize("name", HINTS)
def test_a_hint_can_be_written_as_it_stands(name):
    names = {**vars(muon_optax), "optax": optax, "tx": muon(0.1), "params": PARAMS}
    for hint in HINTS[name]:
        if hint not in inspect.signature(muon).parameters:
            exec(f"muon(0.1, {hint})" if "=" in hint else hint, names)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: muon(lr=0.1), "muon has no argument 'lr'; use learning_rate$"),
        (lambda: muon(0.1, momentum=0.9), "'momentum'; use beta$"),
        (lambda: muon(0.1, ns_steps=6), "'ns_steps'; use method=\"jordan:5\"$"),
        (lambda: muon(0.1, b1=0.9), "'b1'; use beta or adam_b1$"),
        (lambda: muon(0.1, muon_weight_dimension_numbers=None), "use dims$"),
        (lambda: muon(params=PARAMS, lr=0.1), r"'params'; use tx.init\(params\)$"),
        (lambda: muon(0.1, betas=(0.9, 0.95)), "use adam_b1=0.9, adam_b2=0.999$"),
        (lambda: muon(0.1, bta=0.9), "'bta'; did you mean 'beta'"),
        (lambda: muon(0.1, colour=1), "'colour'; its arguments are adam_b1, adam_b2"),
        (lambda: scale_by_muon(momentum=0.9), "scale_by_muon has no .* use beta$"),
        (lambda: scale_by_muon(b1=0.9), "'b1'; use beta$"),
        (lambda: scale_by_muon(lr=0.1), "'lr'; use learning_rate of muon$"),
        (lambda: scale_by_muon(weight_decay=0.1), "'weight_decay'; use weight_decay of muon$"),
        (lambda: plan(PARAMS, lr=0.1), "plan has no argument 'lr'; use learning_rate$"),
        (lambda: plan(PARAMS, strct=True), "'strct'; did you mean 'strict'"),
        (
            lambda: plan(PARAMS, colour=1),
            "'colour'; its arguments are .*weight_decay_mask, why$",
        ),
    ],
)
def test_a_keyword_of_another_library_gets_the_argument_that_stands_for_it(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("library", [optax.contrib.muon, optax.contrib.scale_by_muon])
def test_every_argument_of_optaxs_muon_is_known_or_has_a_hint(library):
    known = {*inspect.signature(muon).parameters, *HINTS}
    assert {*inspect.signature(library).parameters} <= known


@pytest.mark.parametrize("given", [PARAMS, jax.tree.leaves(PARAMS), np.ones((2, 3))])
def test_parameters_in_place_of_a_rate_are_sent_to_init(given):
    """As `torch.optim.Muon(params, lr)` has them."""
    with pytest.raises(ValueError, match=r"tx = muon\(0.02\), then tx.init\(params\)"):
        muon(given, 0.02)


def test_the_signatures_are_the_functions_own():
    """For help, for type checkers, and for optax.inject_hyperparams."""
    for function in (muon, scale_by_muon):
        names = [*inspect.signature(function).parameters]
        assert names == [*inspect.getfullargspec(inspect.unwrap(function)).args] + [
            *inspect.getfullargspec(inspect.unwrap(function)).kwonlyargs
        ]
        assert function is pickle.loads(pickle.dumps(function))


SCHEDULED = ("learning_rate", "adam_learning_rate", "beta", "weight_decay", "adam_weight_decay")


def scheduled(name, schedule):
    return muon(**({"learning_rate": 0.1} | {name: schedule}))


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        (lambda step: None, r"\(step\)=None; use a schedule that returns a number"),
        (lambda step: "fast", r"\(step\)='fast'; use a schedule that returns"),
        (lambda step: jnp.ones(3), r"\(step\)=<float32 array of shape \(3,\)>; use a schedule"),
        (lambda step: -0.1, r"\(step\)=-0.1; use a schedule"),
        (lambda step: jnp.float32(-0.5) * (step + 1), r"\(step\)=-0.5; use a schedule"),
        (lambda: 0.1, r"takes 0 positional(?s:.*)raised by {name}\(step\); use a schedule"),
    ],
)
def test_a_schedule_of_no_numbers_is_named_at_init(name, schedule, problem):
    with pytest.raises((ValueError, TypeError)) as error:
        scheduled(name, schedule).init(PARAMS)
    text = "\n".join([str(error.value), *getattr(error.value, "__notes__", ())])
    assert re.search(problem.format(name=name), text)
    assert f"{name}(step)" in text


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_is_checked_as_far_as_jit_lets_it_be(name):
    """What a shape or a Python number says is said under jit, too; a traced number passes."""
    good = scheduled(name, lambda step: 0.5 / (step + 1))
    state = good.init(PARAMS)
    for schedule in (lambda step: jnp.ones(3), lambda step: None, lambda step: -0.1):
        with pytest.raises(ValueError, match=rf"{name}\(step\)="):
            jax.jit(scheduled(name, schedule).update)(PARAMS, state, PARAMS)
    jax.eval_shape(scheduled(name, lambda step: -1.0 * step - 1).init, PARAMS)
    jax.jit(good.update)(PARAMS, state, PARAMS)


def test_a_decay_alone_checks_its_schedule():
    with pytest.raises(ValueError, match=r"weight_decay\(step\)=-1.0; use a schedule"):
        add_cautious_weight_decay(lambda step: -1.0 - step).init(PARAMS)
    with pytest.raises(ValueError, match=r"beta\(step\)=1.0; use a .* number in \[0, 1\)"):
        scale_by_muon(beta=lambda step: 1.0 + step).init({"kernel": KERNEL})


ADAM = {
    "adam_learning_rate": 0.1,
    "adam_b1": 0.8,
    "adam_b2": 0.9,
    "adam_eps": np.float32(1e-3),
    "adam_weight_decay": lambda step: 0.1,
    "adam_weight_decay_mask": {"layer": False},
}


@pytest.mark.parametrize("name", ADAM)
def test_no_setting_of_adamw_may_be_given_with_another_fallback(name):
    with pytest.raises(ValueError, match=f"^{name} cannot be combined with `fallback`, which"):
        muon(0.1, fallback=optax.sgd(0.1), **{name: ADAM[name]})
    muon(0.1, **{name: ADAM[name]})


def test_defaults_of_adamw_go_with_another_fallback():
    """A wrapper may pass them on; optax.inject_hyperparams makes arrays of them."""
    muon(0.1, fallback=optax.sgd(0.1), adam_b1=0.9, adam_eps=1e-8, adam_weight_decay=0.0)
    tx = optax.inject_hyperparams(muon)(0.1, fallback=optax.sgd(0.1))
    jax.eval_shape(tx.update, PARAMS, jax.eval_shape(tx.init, PARAMS), PARAMS)


def by_axes(params):
    return jax.tree.map(lambda p: "in out" if p.ndim == 2 else None, params)


def has_axes(params):
    return jax.tree.map(lambda p: p.ndim == 2, params)


INJECTED = {"record_every": 2, "weight_decay_mask": has_axes, "dims": has_axes}


@pytest.mark.parametrize("name", INJECTED)
def test_what_inject_hyperparams_changes_gets_advice_that_works(name):
    """It calls functions with the step and makes arrays of integers."""
    given = {"learning_rate": 0.1, "weight_decay": 0.1, name: INJECTED[name]}
    with pytest.raises(ValueError) as error:
        optax.inject_hyperparams(muon)(**given).init(PARAMS)
    advice = re.search(
        r"under optax.inject_hyperparams, pass (static_args=.*)$", str(error.value)
    )
    names = {"inject": optax.inject_hyperparams, "muon": muon}
    exec(f"make = inject(muon, {advice[1]})", names)
    names["make"](**given | ({"dims": by_axes} if name == "dims" else {})).init(PARAMS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: muon(0.1, record_every=0),
            r"^record_every=0; use a whole number in \[1, 2³¹\)$",
        ),
        (lambda: muon(0.1, record_every=2.5), r"^record_every=2.5; use .*\)$"),
        (lambda: muon(0.1, weight_decay_mask="kernel"), "such a tree, or None for all$"),
        (lambda: muon(0.1, weight_decay_mask=PARAMS), "such a tree, or None for all$"),
        (lambda: muon(0.1, dims=3).init(PARAMS), "for rules$"),
        (
            lambda: muon(0.1, dims=lambda _: None).init(PARAMS),
            "or with a function that returns None",
        ),
    ],
)
def test_an_error_does_not_speak_of_inject_hyperparams_without_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("function", [muon, scale_by_muon, plan])
def test_help_fits_on_two_screens_with_arguments_in_two_groups(function):
    """In the order of the signature, whose defaults and types have short names."""
    text = pydoc.plain(pydoc.render_doc(function))
    head = text.splitlines()[2]
    assert len(text.splitlines()) + len(head) // 80 <= 100
    assert all(len(str(p)) <= 80 for p in inspect.signature(function).parameters.values())
    doc = inspect.getdoc(function) or ""
    both = re.search(r"^Args:\n(.*?)\n\nOther Args:\n(.*?)\n\n", doc, re.S | re.M)
    groups = [re.findall(r"^  \**(\w+): ", group, re.M) for group in both.groups()]
    assert min(map(len, groups)) >= 3
    assert groups[0] + groups[1] == [*inspect.signature(function).parameters]
