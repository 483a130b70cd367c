"""The warning about leaves that may have the wrong label."""

from typing import Any

from muon_optax._leaves import leaves_by_path
from muon_optax._warning import warn_user
from muon_optax.dims._advice import Need, write_dims
from muon_optax.dims._resolve import ResolvedDims


def warn_of_doubts(resolved: ResolvedDims, params: Any) -> None:
    """Warn once of all doubtful leaves, with the rules that settle them."""
    needs = [
        Need(found.path, found.doubt, found.proposal)
        for found in resolved.assignments.values()
        if found.doubt
    ]
    if not needs:
        return
    leaves = "1 leaf" if len(needs) == 1 else f"{len(needs)} leaves"
    warn_user(
        f"muon_optax is not sure of {leaves}. Say what is right by rules in front of yours:\n"
        f"{write_dims(resolved.rules, needs, leaves_by_path(params))}\n"
        "Each rule here says what seems right: None leaves a parameter to the fallback, as the "
        "argument `exclude` does, 'in out' makes it a matrix. print(plan(params, dims)) shows "
        "what is done now."
    )
