"""One polar method for all leaves, or rules from paths to methods.

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
    """The method of a name, or the method of each rule."""
    if not isinstance(method, Mapping):
        return find_method(method)
    if not method or not all(isinstance(name, str) for name in method):
        raise ValueError(
            f"method={describe(method)}; use rules from paths to methods, such as "
            "{'attn': 'polar_express:8', '.*': 'jordan'}, where '.*' is for all others"
        )
    return {name: find_method(of_name) for name, of_name in method.items()}


def methods_of(methods: FoundMethods, leaves: Mapping[str, Any]) -> list[PolarMethod]:
    """The method of every leaf: of the rule equal to its path, else of the first that fits."""
    if not isinstance(methods, dict):
        return [methods for _ in leaves]
    rules = [(rule_for_name("method", name), method) for name, method in methods.items()]
    found = []
    for path, leaf in leaves.items():
        fitting = (method for rule, method in rules if rule.finds(path))
        method = methods[path] if path in methods else next(fitting, None)
        if method is None:
            raise LeafError(
                path, leaf, "no rule of `method` fits; add one for all others, '.*': 'jordan'"
            )
        found.append(method)
    return found


def check_rules(methods: FoundMethods, leaves: Mapping[str, Any], params: Any) -> None:
    """Refuse matrices without a method, and rules that match no path."""
    if isinstance(methods, dict):
        methods_of(methods, leaves)
        rules = {name: rule_for_name("method", name) for name in methods}
        check_names_used("method", rules, params)
