"""What a user meets before the first step: help, words of other libraries, errors."""

import jax.numpy as jnp
import numpy as np
import pytest

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
