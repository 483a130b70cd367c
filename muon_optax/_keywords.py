"""The keywords of other implementations of Muon, and the arguments to use instead."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import ParamSpec, TypeVar

from muon_optax._checks import nearest

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_NUMBERS = "method=NewtonSchulz((3.4445, -4.775, 2.0315), steps=5)"
_EPS = ("adam_eps", "method=NewtonSchulz(eps=1e-8)")
_BETAS = ("adam_b1=0.9, adam_b2=0.999",)

# For each keyword of AdamW, or of the Muon of Optax, PyTorch, Keller Jordan, Moonlight, Dion or
# Keras: the argument to write instead, or only its name. The full tables are in
# docs/migrating.md and docs/migrating_pytorch.md.
HINTS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "wd": ("weight_decay",),
    "mask": ("weight_decay_mask",),
    "momentum": ("beta",),
    "mu": ("beta",),
    "b1": ("beta", "adam_b1"),
    "b2": ("adam_b2",),
    "betas": _BETAS,
    "adamw_betas": _BETAS,
    "adam_beta_1": ("adam_b1",),
    "adam_beta_2": ("adam_b2",),
    "eps": _EPS,
    "epsilon": _EPS,
    "adamw_eps": ("adam_eps",),
    "adam_eps_root": ("fallback=optax.adamw(1e-3, eps_root=1e-8)",),
    "adam_lr_ratio": ("adam_learning_rate",),
    "nesterov_momentum": ("nesterov",),
    "ns_steps": ('method="jordan:5"',),
    "ns_coeffs": (_NUMBERS,),
    "ns_coefficients": (_NUMBERS,),
    "newton_schulz_func": ("method",),
    "preconditioning": ('method=NewtonSchulz(normalize="schatten4")',),
    "adaptive": ("method=DualNorm(NewtonSchulz())",),
    "consistent_rms": ('shape_scaling="adam_rms"',),
    "rms_rate": ('shape_scaling="adam_rms"',),
    "adjust_lr": ("shape_scaling",),
    "adjust_lr_fn": ("shape_scaling",),
    "muon_weight_dimension_numbers": ("dims",),
    "weight_dimension_numbers": ("dims",),
    "muon_params": ("dims",),
    "adamw_params": ("exclude",),
    "exclude_layers": ("exclude",),
    "distributed_mesh": ("shardings",),
    "params": ("tx.init(params)",),
}


def _argument(hint: str) -> str:
    return hint.partition("=")[0]


_OURS = {_argument(hint) for hints in HINTS.values() for hint in hints}


def explain_keywords(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap a function so that its error about an unknown keyword says what to write instead."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        check_keywords(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return call


def check_keywords(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse keywords that a function does not have.

    >>> check_keywords("muon", ["lr"], ["learning_rate"])
    Traceback (most recent call last):
    TypeError: muon has no argument 'lr'; use learning_rate
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{function} has no argument {name!r}{_advice(name, known)}")


def _advice(name: str, known: Collection[str]) -> str:
    """Say which argument to write instead, and whether only `muon` has it."""
    hints = HINTS.get(name) or ((name,) if name in _OURS else ())
    if not hints:
        return nearest(name, known) or f"; its arguments are {', '.join(sorted(known))}"
    here = [hint for hint in hints if _argument(hint) in {*known, "tx.init(params)"}]
    return f"; use {' or '.join(here)}" if here else f"; use {' or '.join(hints)} of muon"
