"""The warning about leaves that may have the wrong label."""

from collections.abc import Mapping
from typing import Any

from muon_optax._leaves import leaves_by_path
from muon_optax._warning import warn_user
from muon_optax.dims._advice import Need, write_dims
from muon_optax.dims._resolve import ResolvedDims


def warn_of_doubts(resolved: ResolvedDims, params: Any) -> None:
    """Warn once about all doubtful leaves, and give the rules that settle the doubts."""
    if doubts := describe_doubts(resolved, leaves_by_path(params)):
        warn_user(f"muon_optax is {doubts}\nprint(plan(params, dims)) shows the labels in use.")


def describe_doubts(resolved: ResolvedDims, leaves: Mapping[str, Any]) -> str | None:
    """Describe the doubtful leaves and the rules that settle them; None if there are none."""
    needs = [
        Need(found.path, found.doubt, found.proposal)
        for found in resolved.assignments.values()
        if found.doubt
    ]
    if not needs:
        return None
    count = "1 leaf" if len(needs) == 1 else f"{len(needs)} leaves"
    return (
        f"not sure of {count}. Pass these rules as `dims`:\n"
        f"{write_dims(resolved.rules, needs, leaves)}\n"
        "Check these guesses: 'in out' makes a leaf a matrix, and None sends it to the "
        "fallback, as `exclude` does."
    )
