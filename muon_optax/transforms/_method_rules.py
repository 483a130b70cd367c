"""The polar methods of leaves: one method for all of them, or rules from paths to methods.

>>> methods = find_methods({"attn": "polar_express:8", ".*": "jordan"})
>>> methods_of(methods, {"block/attn/q": ..., "block/mlp": ...})
[NewtonSchulz('polar_express', 8), NewtonSchulz('jordan', 5)]
"""

from collections.abc import Mapping
from typing import Any

from muon_optax._checks import describe
from muon_optax._leaves import LeafError
from muon_optax.dims import check_names_used, rule_for_name
from muon_optax.polar._method import PolarMethod
from muon_optax.polar._presets import find_method

MethodRules = Mapping[str, PolarMethod | str]
FoundMethods = PolarMethod | dict[str, PolarMethod]


def find_methods(method: PolarMethod | str | MethodRules) -> FoundMethods:
    """Replace names by the methods that they stand for, also in a dict of rules."""
    if not isinstance(method, Mapping):
        return find_method(method)
    if not method or not all(isinstance(name, str) for name in method):
        raise ValueError(
            f"method={describe(method)}; use rules from paths to methods, such as "
            "{'attn': 'polar_express:8', '.*': 'jordan'}, where '.*' matches every path"
        )
    return {name: find_method(of_name) for name, of_name in method.items()}


def methods_of(methods: FoundMethods, leaves: Mapping[str, Any]) -> list[PolarMethod]:
    """Return the method of every leaf.

    A rule that is equal to the leaf's path decides, or else the first rule that matches it.
    """
    if not isinstance(methods, dict):
        return [methods for _ in leaves]
    rules = [(rule_for_name("method", name), method) for name, method in methods.items()]
    found = []
    for path, leaf in leaves.items():
        fitting = (method for rule, method in rules if rule.finds(path))
        method = methods[path] if path in methods else next(fitting, None)
        if method is None:
            raise LeafError(
                path,
                leaf,
                "no rule of `method` matches it; add a rule for all other leaves, such as "
                "'.*': 'jordan'",
            )
        found.append(method)
    return found


def check_rules(methods: FoundMethods, leaves: Mapping[str, Any], params: Any) -> None:
    """Refuse matrices without a method, and rules that match no path."""
    if isinstance(methods, dict):
        methods_of(methods, leaves)
        rules = {name: rule_for_name("method", name) for name in methods}
        check_names_used("method", rules, params)
