"""A picture of the estimates: what an update takes, by the kind of kernel, over the floor."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.pictures import keep
from benchmarks.programs.kernels import KINDS
from benchmarks.programs.optimizers import OPTAX, OURS
from benchmarks.programs.tables import shown_targets
from muon_optax.estimates._targets import TARGETS

PASSES = "passes of the floor"
COLORS = dict(zip((*KINDS, PASSES), ("tab:blue", "tab:green", "tab:olive", "tab:red", "0.7")))


def bars(record: dict[str, Any], target: str) -> dict[str, dict[str, float]]:
    """Label → kind → estimate over the floor; only where there is a floor."""
    found = {}
    for model, of_it in record["updates"][target].items():
        if least := of_it["floor"]:
            total = sum(least.values())
            for name in (OURS, OPTAX):
                kinds = of_it["programs"][name]["by_kind"]
                parts = {kind: kinds[kind][TARGETS[target].unit] for kind in KINDS}
                if None not in parts.values():
                    found[f"{model}, {name}"] = {k: v / total for k, v in parts.items()}
            parts = {"products": least["products"], PASSES: least["passes"]}
            found[f"{model}, floor"] = {k: v / total for k, v in parts.items()}
    return found


def draw(folder: Path, record: dict[str, Any]) -> None:
    """`programs.png` and `.svg`."""
    targets = shown_targets(record)
    figure, axes = plt.subplots(1, len(targets), figsize=(6 * len(targets), 5), squeeze=False)
    for target, ax in zip(targets, axes[0]):
        found = bars(record, target)
        left = dict.fromkeys(found, 0.0)
        for kind in COLORS:
            widths = [parts.get(kind, 0.0) for parts in found.values()]
            ax.barh([*found], widths, left=[*left.values()], color=COLORS[kind], label=kind)
            left = {label: left[label] + width for label, width in zip(found, widths)}
        ax.invert_yaxis()
        ax.set_xlabel("estimate / floor")
        ax.set_title(target)
        ax.set_xlim(0, 1.05 * max(left.values()))
    axes[0][-1].legend(loc="upper right", bbox_to_anchor=(1, -0.12), ncols=len(COLORS))
    figure.suptitle("One update: estimated from the compiled program, not measured")
    keep(figure, folder, "programs")
