"""Figures of the experiments, drawn from their JSON as PNG and SVG."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence.training import METHODS_BY_NAME
from benchmarks.pictures import keep
from muon_optax import NewtonSchulz

COLORS = {
    "SVD": "black",
    "Jordan q=5": "#d9480f",
    "Polar Express q=8": "#2b8a3e",
    "Polar Express q=5": "#2b8a3e",
    "SGD, momentum": "#8a8f98",
    "AdamW": "#4c6ef5",
    "q=0": "#e8a33d",
}
KAPPA_COLORS = {1: "#c5b0e6", 2: "#9b6fd3", 3: "#6f3bb3", 4: "#431c7a"}
STYLES = {1: ":", 2: "--", 3: "-.", 5: "-", 8: "-"}


def color(method: str) -> str:
    """One colour for a method in every figure; a family's for its members."""
    if method.startswith("κ="):
        return KAPPA_COLORS[int(method[2])]
    return COLORS.get(method, "#5c7a29")


def style(method: str) -> str:
    """The line of a member of the Taylor family tells its q."""
    return STYLES.get(int(method[-1]), "-") if method.startswith("κ=") else "-"


def finals(runs: list[dict]) -> list[float]:
    """The last loss of every run."""
    return [run["loss"][-1] for run in runs]


def training_by_step(training: dict, times: dict) -> Figure:
    """(a, b) Loss by step and by time, each method at its own best rate."""
    shown = ("q=0", "κ=2 q=1", "κ=2 q=3", "κ=2 q=5", "Jordan q=5", "SVD")
    shown += ("SGD, momentum", "AdamW")
    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
    for name in shown:
        runs = training["studies"][name]["seeds"]
        loss = np.mean([run["loss"] for run in runs], axis=0)
        steps = np.array(runs[0]["step"])
        look = {"color": color(name), "ls": style(name), "lw": 1.6, "label": name}
        by_step.plot(steps, loss, **look)
        if name in times["small"]:
            by_time.plot(steps * times["small"][name][1], loss, **look)
    by_step.set(xlabel="step", ylabel="held-out loss (nats per byte)", ylim=(1.9, 3.0))
    by_time.set(xlabel="seconds on one core (median step times)")
    by_step.legend(fontsize=8, frameon=False)
    figure.suptitle("Small byte GPT, learning rate tuned per method, mean of 3 seeds")
    return figure


def training_by_q(training: dict) -> Figure:
    """(a) The final loss by q and κ, tuned and at one size of update; and by the slope at 0."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.4), sharey=True)
    studies, matched = training["studies"], training["matched"]
    tuned = {name: finals(study["seeds"]) for name, study in studies.items()}
    same = {name: finals(runs) for name, runs in matched.items()}
    for axes, ends in zip(panels, (tuned, same)):
        for kappa, tint in KAPPA_COLORS.items():
            by_q = [ends[name] for name in ("q=0", *(f"κ={kappa} q={q}" for q in range(1, 6)))]
            _spread(axes, range(6), by_q, tint, f"κ = {kappa}")
        _bands(axes, ends)
        axes.set_xlabel("steps q")
    for name, ends in tuned.items():
        if isinstance(method := METHODS_BY_NAME.get(name), NewtonSchulz):
            slope = math.prod(stage[0] for stage in method.schedule)
            label = None if name.startswith("κ=") else name
            _spread(panels[2], [slope], [ends], color(name), label)
    _bands(panels[2], {"SVD": tuned["SVD"]})
    panels[0].set(title="rate tuned for each method", ylabel="final held-out loss, 3 seeds")
    rate = matched["SVD"][0]["learning_rate"]
    panels[1].set_title(f"all at the SVD's RMS, at rate {rate:g}")
    panels[2].set(title="tuned, by the slope of the scalar map at 0", xscale="log")
    panels[2].set_xlabel("slope: by how much small singular values grow")
    return figure


def causes_panel(causes: dict) -> Figure:
    """(f) The final loss at every rate, and the seeds at the best."""
    figure, (sweep, best) = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    studies = causes["studies"]
    palette = plt.get_cmap("tab10")
    for row, of_it in enumerate(studies.values()):
        rates = [run["learning_rate"] for run in of_it["sweep"]]
        tint = palette(row % 10)
        sweep.plot(rates, finals(of_it["sweep"]), marker="o", ms=4, color=tint)
        ends = finals(of_it["seeds"])
        best.plot([row] * len(ends), ends, "o", color=tint, ms=5)
        best.plot([row - 0.25, row + 0.25], [np.mean(ends)] * 2, color=tint)
    sweep.set(
        xscale="log", xlabel="learning rate", ylabel="final held-out loss", title="seed 0"
    )
    best.set_xticks(range(len(studies)), studies, rotation=35, ha="right", fontsize=8)
    for row, runs in enumerate(causes["between"].values()):
        best.plot([row + 0.15] * len(runs), finals(runs), "o", color=palette(row), mfc="none")
    rate = causes["between"]["SVD"][0]["learning_rate"]
    best.set(title=f"three seeds at the best rate, and their mean; ○ at {rate:.3g}")
    figure.suptitle(f"Byte GPT, {causes['steps']} steps: which part of an update matters")
    return figure


def polar_by_q(momenta: dict) -> Figure:
    """(c) ε_q, χ_q and alignment of captured momenta, next to exact values and bounds."""
    figure, (error, factor, align) = plt.subplots(1, 3, figsize=(14, 4.4))
    for family in dict.fromkeys(row["family"] for row in momenta["rows"]):
        rows = [row for row in momenta["rows"] if row["family"] == family]
        q = [row["q"] for row in rows]
        taylor = family.startswith("taylor")
        tint = KAPPA_COLORS[int(family[-1])] if taylor else _deployed_color(family)
        name = f"κ = {family[-1]}" if taylor else family.replace("_", " ")
        low, middle, high = zip(*(row["alignment"] for row in rows))
        if family in ("taylor2", "jordan"):  # more of them would hide each other
            align.fill_between(q, low, high, color=tint, alpha=0.15, lw=0)
        align.plot(q, middle, color=tint, label=name)
        align.plot(q, [row["alignment_bound"] for row in rows], ":", color=tint)
        if taylor:
            error.plot(q, [row["polar_error"][0] for row in rows], "o", ms=4, color=tint)
            error.plot(q, [row["exact_error"][0] for row in rows], color=tint, label=name)
            error.plot(q, [row["bound_error"][0] for row in rows], ":", color=tint)
            factor.plot(q, [row["exact_factor"][1] for row in rows], color=tint, label=name)
            bounds = [row["bound_factor"][1] or math.nan for row in rows]  # None: infinite
            factor.plot(q, bounds, ":", color=tint)
    error.set(
        title="smallest ε_q of all: measured ●, exact —, bound ···", xlabel="q", ylim=(0, 1.05)
    )
    factor.set(title="χ_q, median: exact —, bound ···", xlabel="q", yscale="log")
    align.set(title="alignment: median, range; a(P, r) ···", xlabel="q", ylim=(0, 1.1))
    for axes in (error, factor, align):
        axes.legend(fontsize=8, frameon=False)
    return figure


def rank_slopes(rank: dict) -> Figure:
    """(d) The mean gradient by rank, at one step size and at the best one."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 6), sharey=True)
    slopes = {(s["method"], s["decay"], s["tuned"]): s["slope"] for s in rank["slopes"]}
    for panel, decay in zip(axes, (0, 1, 2)):
        for method in dict.fromkeys(row["method"] for row in rank["rows"]):
            for tuned in (False, True):
                rows = sorted(
                    (row["rank"], row["gradient"])
                    for row in rank["rows"]
                    if (row["method"], row["decay"], row["tuned"]) == (method, decay, tuned)
                )
                if not rows:
                    continue
                slope = slopes[method, decay, tuned]
                label = f"{method}, {'tuned' if tuned else 'fixed'}: slope {slope:.2f}"
                look = {"color": color(method), "ls": "--" if tuned else "-", "marker": "."}
                panel.plot(*zip(*rows), label=label, **look)
        panel.set(xscale="log", yscale="log", xlabel="rank r", title=f"curvatures ∝ i^-{decay}")
        panel.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    axes[0].set_ylabel("mean nuclear norm of the gradient")
    return figure


def bounds_by_horizon(bounds: dict) -> Figure:
    """(e) Every bound next to what was measured, by T."""
    shown = ("SVD", "κ=2 q=3", "κ=2 q=5", "Jordan q=5", "Polar Express q=5", "SGD, momentum")
    figure, axes = plt.subplots(2, len(shown), figsize=(15, 6), sharex=True, sharey="row")
    kinds = {
        "paper_bound": ("paper, measured ε", "#e8a33d", "--"),
        "certified_bound": ("certified a(P, r)", "#6f3bb3", "-"),
        "muon_bound": ("measured a, s", "#9b6fd3", ":"),
        "sgdm_bound": ("SGD's bound", "#6f3bb3", "-"),
    }
    for row, where in zip(axes, ("quadratic", "robust")):
        for panel, method in zip(row, shown):
            of_it = (where, method)
            rows = [r for r in bounds["rows"] if (r["problem"], r["method"]) == of_it]
            horizon = [r["T"] for r in rows]
            panel.plot(horizon, [r["measured"] for r in rows], "k.", ms=4)
            for kind, (label, tint, line) in kinds.items():
                if kind in rows[0]:
                    values = [r[kind] for r in rows]
                    panel.plot(horizon, values, line, color=tint, label=label)
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(horizon, [str(t) for t in horizon], fontsize=8)
            panel.minorticks_off()
            panel.legend(fontsize=7, frameon=False)
            panel.set_title(f"{where}: {method}", fontsize=9)
    figure.supxlabel("T")
    figure.supylabel("mean nuclear norm of the gradient")
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "training": (training_by_step, ("training", "times")),
    "steps": (training_by_q, ("training",)),
    "causes": (causes_panel, ("causes",)),
    "polar": (polar_by_q, ("momenta",)),
    "rank": (rank_slopes, ("rank",)),
    "bounds": (bounds_by_horizon, ("bounds",)),
}


def draw(folder: Path) -> None:
    """Every figure whose JSON is in the folder."""
    for name, (make, sources) in FIGURES.items():
        paths = [folder / f"{source}.json" for source in sources]
        if not all(path.exists() for path in paths):
            continue
        keep(make(*(json.loads(path.read_text()) for path in paths)), folder, name)


def _spread(axes: Axes, x: Iterable, ends: list[list[float]], tint: str, label: str | None):
    """Means, and ranges as error bars."""
    mean, low, high = (np.array([f(runs) for runs in ends]) for f in (np.mean, min, max))
    look = {"color": tint, "marker": "o", "ms": 4, "capsize": 2, "label": label}
    axes.errorbar(x, mean, [mean - low, high - mean], **look)


def _bands(axes: Axes, ends: dict[str, list[float]]) -> None:
    """Ranges of what has no q, as bands across."""
    for name in ("SVD", "Jordan q=5", "SGD, momentum", "AdamW"):
        if name in ends:
            band = {"color": color(name), "alpha": 0.3, "label": name, "lw": 0}
            axes.axhspan(min(ends[name]), max(ends[name]), **band)
    axes.legend(fontsize=8, frameon=False)


def _deployed_color(family: str) -> str:
    return COLORS["Jordan q=5"] if family == "jordan" else COLORS["Polar Express q=8"]
