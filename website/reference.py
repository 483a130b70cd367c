"""The pages of the API reference: which public name stands where."""

import importlib
from itertools import chain
from typing import NamedTuple


class Group(NamedTuple):
    """A page of the reference: a title, a sentence, and names."""

    title: str
    opening: str
    module: str
    names: tuple[str, ...]


GROUPS = {
    "optimizers": Group(
        "Optimizers and transformations",
        "`muon` is the optimizer for a whole model. The others are its parts: "
        "see [Build your own chain](../chains.md).",
        "muon_optax",
        (
            *("muon", "scale_by_muon", "partition_matrices", "scale_by_shape"),
            *("scale_by_neuron_rms", "normalize_sides", "add_cautious_weight_decay"),
            *("add_independent_weight_decay", "qk_clip", "place_state", "MuonState"),
        ),
    ),
    "methods": Group(
        "Polar methods",
        "How a matrix is orthogonalized. [Choosing how to orthogonalize](../methods.md) says "
        "which method to take.",
        "muon_optax",
        (
            *("METHODS", "NewtonSchulz", "SVD", "DualNorm", "orthogonalize", "PolarMethod"),
            *("BatchedMethod", "MethodPlan", "Coefficients", "FAMILIES"),
        ),
    ),
    "plans": Group(
        "Plans and comparisons",
        "What would be done to your parameters, and how long methods take on them.",
        "muon_optax",
        ("plan", "Plan", "compare", "Comparison"),
    ),
    "layouts": Group(
        "Layouts and rules",
        "[Which parameter is a matrix](../layouts.md) is the guide.",
        "muon_optax",
        ("FLAX", "EQUINOX", "LAYOUTS", "Rule", "MuonDimensionNumbers"),
    ),
    "dims": Group(
        "muon_optax.dims",
        "What the argument `dims` of every transformation may be, and how it is read.",
        "muon_optax.dims",
        (
            *("resolve", "resolve_once", "matrix_views", "MatrixView", "ResolvedDims"),
            *("Layout", "SpecError", "HALIAX", "MAXTEXT", "RANK_TWO"),
        ),
    ),
    "coefficients": Group(
        "muon_optax.coefficients",
        "The polynomials of Newton-Schulz.",
        "muon_optax.coefficients",
        ("minimax", "taylor", "JORDAN", "YOU", "POLAR_EXPRESS", "CANS", "Schedule"),
    ),
    "diagnostics": Group(
        "muon_optax.diagnostics",
        "Measures of a run. [Watching a run](../diagnostics.md) is the guide.",
        "muon_optax.diagnostics",
        (
            *("History", "latest", "flat", "momentum", "spectra", "record_updates"),
            *("alignment", "cosine", "operator_norm", "orthogonality_error", "polar_error"),
            *("root_mean_square", "stable_rank", "MEASURES", "RecordState"),
        ),
    ),
    "compat": Group(
        "muon_optax.compat",
        "Other implementations of Muon, their checkpoints, and AdamW's. The guides are "
        "[Coming from optax.contrib.muon](../migrating.md), "
        "[Coming from PyTorch](../migrating_pytorch.md) and "
        "[Moving a running job](../running_job.md).",
        "muon_optax.compat",
        (
            *("muon", "scale_by_muon", "scale_by_shape", "MODES", "RoundedNewtonSchulz"),
            *("transfer", "from_torch", "kernel_layout", "to_checkpoint", "from_checkpoint"),
        ),
    ),
    "theory": Group(
        "muon_optax.theory",
        "The paper's constants and bounds. [The theory](../theory.md) has the claims.",
        "muon_optax.theory",
        (
            *("certificate", "Certificate", "alignment", "alignment_bound", "cosine"),
            *("steps_for", "tabulate", "Table", "Row", "products", "flops", "scalar_map"),
            *("image", "sup_error", "residual_polynomial", "residual", "residual_bound"),
            *("polar_error", "constant_factor", "Problem", "Run", "Momentum", "Bound", "bound"),
            *("best_run", "muon_bound", "paper_bound", "spectral_bound", "tuned_step"),
            *("best_step", "sgdm_bound", "tuned_sgdm_step"),
        ),
    ),
}

# Data has no docstring: a sentence for each.
DATA = {
    "muon_optax.METHODS": 'Polar methods by name. `muon(0.02, "fast")` takes one of them.',
    "muon_optax.FAMILIES": "Families of polynomials by name.",
    "muon_optax.FLAX": "The rules for Flax, linen and nnx; the default of `dims`.",
    "muon_optax.EQUINOX": "The rules for Equinox, whose weights are `[out, in]`.",
    "muon_optax.LAYOUTS": 'The rules of every library by name, such as `LAYOUTS["keras"]`.',
    "muon_optax.MuonDimensionNumbers": "Optax's own spec of a matrix: "
    "`MuonDimensionNumbers(reduction_axis, output_axis)`. Each is an axis or several. "
    "Optax's class is used where Optax has one.",
    "muon_optax.dims.HALIAX": "The rules for Haliax.",
    "muon_optax.dims.MAXTEXT": "The rules for MaxText with `param_scan_axis=1`.",
    "muon_optax.dims.RANK_TWO": "The rule of `optax.contrib.muon`: "
    "every leaf of two axes is a matrix.",
    "muon_optax.dims.Layout": "A tuple of rules.",
    "muon_optax.coefficients.JORDAN": "Keller Jordan's polynomial; the default.",
    "muon_optax.coefficients.YOU": "You's five polynomials.",
    "muon_optax.coefficients.POLAR_EXPRESS": "Polar Express, arXiv 2505.16932, as published.",
    "muon_optax.coefficients.CANS": "CANS, arXiv 2506.10935, as published.",
    "muon_optax.coefficients.Schedule": "A tuple of stages, the first applied first.",
    "muon_optax.compat.MODES": "Keyword arguments of `muon` by library: "
    '`muon(0.02, **compat.MODES["keller"])` is Keller Jordan\'s Muon.',
    "muon_optax.diagnostics.MEASURES": "The measures that a record takes, by name.",
}


def names() -> set[str]:
    """Every name that has an entry, in full."""
    return set(chain.from_iterable(map(_full, GROUPS.values())))


def pages() -> dict[str, str]:
    """The reference by the address of its pages."""
    found = {f"reference/{slug}.md": _page(group) for slug, group in GROUPS.items()}
    return {"reference/index.md": _overview()} | found


def _full(group: Group) -> list[str]:
    return [f"{group.module}.{name}" for name in group.names]


def _page(group: Group) -> str:
    lines = [f"# {group.title}", "", group.opening, ""]
    for name in _full(group):
        lines += [f"::: {name}", "", DATA.get(name, ""), ""]
    return "\n".join(lines)


def _overview() -> str:
    """All names with the first line of their docstrings."""
    lines = ["# API reference", "", "Every public name, and what it is."]
    for slug, group in GROUPS.items():
        lines += [
            "",
            f"## [{group.title}]({slug}.md)",
            "",
            "| name | what it is |",
            "| --- | --- |",
        ]
        for name in _full(group):
            short = f"`{name.removeprefix('muon_optax.')}`"
            lines.append(f"| [{short}][{name}] | {DATA.get(name) or first_line(name)} |")
    return "\n".join(lines) + "\n"


def first_line(name: str) -> str:
    """The first line of the docstring of a public name."""
    module, _, last = name.rpartition(".")
    return (getattr(importlib.import_module(module), last).__doc__ or "").strip().split("\n")[0]
