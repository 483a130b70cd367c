"""A picture of the estimates: what an update takes, by the kind of kernel, over the floor."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import add_legend, begin, keep, look
from benchmarks.programs.kernels import KINDS
from benchmarks.programs.optimizers import OPTAX, OURS
from benchmarks.programs.tables import shown_targets
from muon_optax.estimates._targets import TARGETS

METHODS = {OURS: "Muon", OPTAX: "optax.contrib"}
MODELS = {"768x2": "2 layers, width 768", "2048x2": "2 layers, width 2048"}
MODELS |= {"llama7b-layer": "1 layer of Llama 7B"}
LABELS = ("products", "input pass: gradients, state", "output pass: parameters", "other")
SHADES = ((1.0, ""), (0.7, "//"), (0.45, ".."), (0.2, "xx"))  # of the kinds: opacity, hatch


def bars(record: dict[str, Any], target: str) -> dict[tuple[str, str], list[float]]:
    """Method and model → estimate over the floor by kind; only where there is a floor."""
    found = {}
    for model, of_it in record["updates"][target].items():
        for name in METHODS if of_it["floor"] else ():
            kinds = of_it["programs"][name]["by_kind"]
            parts = [kinds[kind][TARGETS[target].unit] for kind in KINDS]
            if None not in parts:
                found[name, model] = [part / sum(of_it["floor"].values()) for part in parts]
    return found


def draw(folder: Path, record: dict[str, Any]) -> None:
    """`programs.png` and `.svg`."""
    targets = shown_targets(record)
    found = {t: {k: v for k, v in bars(record, t).items() if k[1] in MODELS} for t in targets}
    totals = [(name, sum(p)) for of_it in found.values() for (name, _), p in of_it.items()]
    ends = [f(x for n, x in totals if n == name) for name in METHODS for f in (min, max)]
    title = (
        "Estimated, not measured: muon takes {:.1f} to {:.1f} times the floor,\n"
        "optax.contrib.muon {:.1f} to {:.1f} times"
    ).format(*ends)
    shape = {"height": 4.8, "sharey": True, "squeeze": False}
    figure, panels = begin(title, 1, len(targets), **shape)
    for axes, (target, of_it) in zip(panels[0], found.items()):
        for (name, model), parts in of_it.items():
            color, left = look(METHODS[name])["color"], np.cumsum([0, *parts])
            for at, width, (alpha, hatch) in zip(left, parts, SHADES):
                style = {"color": color, "alpha": alpha, "hatch": hatch, "ec": "white"}
                axes.barh(f"{name},\n{MODELS[model]}", width, left=at, **style)
        axes.axvline(1, color="black", ls="--")
        axes.set(xlabel="estimate over the floor")
        axes.set_title(f"{TARGETS[target].kind.upper()} {target.replace('h', 'H')}")
    panels[0][0].invert_yaxis()
    for label, (alpha, hatch) in zip(LABELS, SHADES, strict=True):
        style = {"color": "black", "alpha": alpha, "hatch": hatch, "ec": "white"}
        axes.barh(f"{name},\n{MODELS[model]}", 0, label=label, **style)
    add_legend(figure, 4, title="floor: operations at peak speed, one pass over memory")
    keep(figure, folder, "programs")
