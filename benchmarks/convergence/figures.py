"""Figures of the experiments, drawn from their JSON as PNG and SVG."""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.convergence import spectra
from benchmarks.convergence.nesterov import agrees
from benchmarks.convergence.training import METHODS_BY_NAME
from benchmarks.pictures import RAMP, add_legend, begin, keep, look, write_ticks

LOSS = "held-out loss (nats per byte)"
WORDS = {
    "SVD, small ones left small": "SVD, values below 1/485 left small",
    "SVD, more left small": "SVD, values below 1/23 left small",
    "Jordan, small ones filled": "Jordan, values below 0.003 set to 1",
    "Jordan, RMS of the SVD": "Jordan, scaled to the SVD's size",
    "SGD, momentum, step by L_F": "SGD, own step size by smoothness",
    "robust": "robust regression",
}


def words(method: str) -> str:
    """The name without symbols: "κ=2 q=5" is "Taylor, degree 5, 5 steps"."""
    if method in WORDS:
        return WORDS[method]
    method = re.sub(r"κ=(\d)", lambda found: f"Taylor, degree {2 * int(found[1]) + 1}", method)
    return re.sub(r" q=(\d+)", r", \1 steps", method).replace(", 1 steps", ", 1 step")


def finals(runs: list[dict]) -> list[float]:
    """The last loss of every run."""
    return [run["loss"][-1] for run in runs]


def training_by_step(training: dict, times: dict) -> Figure:
    """Loss by step and by time, every method at its best rate."""
    cost = {name: median for name, (_, median, _) in times["small"].items()}
    share = cost["Jordan q=5"] / cost["SVD"]
    title = f"Jordan's five steps learn like the exact SVD, in {share:.0%} of its time"
    figure, panels = begin(title, 1, 2, height=4.4, sharey=True)
    for name in ("SGD, momentum", "AdamW", "κ=2 q=5", "Jordan q=5", "SVD"):
        runs = training["studies"][name]["seeds"]
        loss = np.mean([run["loss"] for run in runs], axis=0)
        steps = np.array(runs[0]["step"])
        for axes, unit in zip(panels, (1, cost[name])):
            axes.plot(unit * steps, loss, markevery=(4, 5), **look(words(name)))
    panels[0].set(xlabel="step", ylabel=LOSS, ylim=(1.9, 3.0))
    panels[1].set_xlabel("seconds on one core")
    add_legend(figure, 3)
    return figure


def training_by_q(training: dict) -> Figure:
    """The final loss by steps and degree, and by the slope at 0."""
    title = (
        "The more a method lifts small singular values, the lower the loss, down to the SVD's"
    )
    figure, (by_steps, by_slope) = begin(title, 1, 2, height=4.6, sharey=True)
    ends = {name: finals(of_it["seeds"]) for name, of_it in training["studies"].items()}
    for kappa in (1, 2, 3, 4):
        family = ("q=0", *(f"κ={kappa} q={q}" for q in range(1, 6)))
        label = f"Taylor, degree {2 * kappa + 1}"
        _with_range(by_steps, range(6), [ends[name] for name in family], label)
        _with_range(by_slope, map(_slope, family[1:]), [ends[n] for n in family[1:]], label)
    for name in ("Jordan q=5", "Polar Express q=8"):
        _with_range(by_slope, [_slope(name)], [ends[name]], words(name))
    for axes in (by_steps, by_slope):
        for name in ("SGD, momentum", "AdamW", "SVD"):
            axes.axhline(np.mean(ends[name]), **look(name) | {"marker": ""})
    by_steps.set(xlabel="steps of the polynomial", ylabel=f"final {LOSS}")
    by_slope.set(xscale="log", xlabel="factor by which small singular values grow")
    write_ticks(by_slope.xaxis, (1,))
    add_legend(figure, 3)
    return figure


def causes_panel(causes: dict) -> Figure:
    """The final losses of every variant at its best rate."""
    ends = {name: finals(of_it["seeds"]) for name, of_it in causes["studies"].items()}
    ends = dict(sorted(ends.items(), key=lambda item: np.mean(item[1])))
    cost = np.mean(ends["SVD, more left small"]) - np.mean(ends["SVD"])
    title = "Leaving singular values below 1/23 of the norm small costs"
    figure, axes = begin(f"{title} {cost:.2f} nats; below 1/485, none", height=4.4)
    for row, (name, losses) in enumerate(ends.items()):
        style = look(words(name)) | {"label": None, "ls": ""}
        between = finals(causes["between"].get(name, []))
        axes.plot(losses, [row] * len(losses), **style)
        axes.plot(between, [row + 0.25] * len(between), **style | {"mfc": "white"})
        axes.plot([np.mean(losses)] * 2, [row - 0.3, row + 0.3], color=style["color"])
    axes.set_yticks(range(len(ends)), [words(name) for name in ends])
    axes.invert_yaxis()
    axes.set_xlabel(f"final {LOSS}")
    rate = causes["between"]["SVD"][0]["learning_rate"]
    axes.plot([], [], "ko", label="seeds at the best rate, in factors of 2")
    axes.plot([], [], "k|", ms=12, label="their mean")
    axes.plot([], [], "ko", mfc="white", label=f"seeds at a rate between, {rate:.3g}")
    add_legend(figure, 3)
    return figure


def polar_by_q(momenta: dict) -> Figure:
    """The worst singular value's error and the alignment of captured momenta."""
    shown = {"taylor2": "Taylor, degree 5", "jordan": "Jordan"}
    shown |= {"polar_express": "Polar Express"}
    after = [row for row in momenta["rows"] if row["q"] == 5 and row["family"] in shown]
    least = min(row["alignment"][0] for row in after)
    worst = min(row["polar_error"][0] for row in after)
    title = f"After five steps all momenta are aligned by {least:.2f} or more;\n"
    title += f"the worst singular value is still off by {worst:.2f} or more"
    figure, (error, align) = begin(title, 1, 2, height=4.6)
    for family, label in shown.items():
        rows = [row for row in momenta["rows"] if row["family"] == family]
        q = [row["q"] for row in rows]
        error.plot(q, [row["polar_error"][0] for row in rows], **look(label))
        align.plot(q, [row["alignment"][0] for row in rows], **look(label))
        promised = {"ls": ":", "color": look(label)["color"]}
        align.plot(q, [row["alignment_bound"] for row in rows], **promised)
    error.set(xlabel="steps", ylabel="error of the worst singular value", ylim=(0, 1.05))
    error.set_title(f"worst value, in the best of {len(momenta['spectra'])} momenta")
    align.set(xlabel="steps", ylabel="alignment (exact factor: 1)", ylim=(0, 1.05))
    align.set_title("alignment, in the worst of them")
    align.plot([], [], ":", color="black", label="certified for all")
    add_legend(figure, 4)
    return figure


def rank_slopes(rank: dict) -> Figure:
    """The mean gradient by rank, at one step size and at the best one."""
    title = "At the theory's step size SGD's gradient grows with the rank; tuned, hardly at all"
    figure, panels = begin(title, 1, 2, height=4.4, sharey=True)
    for axes, tuned in zip(panels, (False, True)):
        for method in dict.fromkeys(row["method"] for row in rank["rows"]):
            of_it = {"method": method, "decay": 1, "tuned": tuned}
            rows = [row for row in rank["rows"] if of_it.items() <= row.items()]
            points = sorted((row["rank"], row["gradient"]) for row in rows)
            axes.plot(*zip(*points), **look(words(method)))
        axes.set(xscale="log", yscale="log", xlabel="rank (curvature of direction i: 1/i)")
        write_ticks(axes.xaxis)
        write_ticks(axes.yaxis)
    panels[0].set(title="the theory's step size", ylabel="mean nuclear norm of the gradient")
    panels[1].set_title("step size tuned for each rank")
    add_legend(figure, 3)
    return figure


def bounds_by_method(bounds: dict) -> Figure:
    """Every bound over what it bounds, at every horizon."""
    rows = [row for row in bounds["rows"] if "certified_bound" in row]  # not SGD's
    certified, paper = (
        np.array([row[kind] / np.mean(row["measured"]) for row in rows])
        for kind in ("certified_bound", "paper_bound")
    )
    title = "The certified bounds are {:.1f} to {:.1f} times what was measured,\n"
    title = title.format(min(certified), max(certified))
    title += f"the paper's up to {round(max(paper), -2):,.0f} times"
    figure, panels = begin(title, 1, 2, height=4.6, sharex=True, sharey=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for axes, problem in zip(panels, ("quadratic", "robust")):
        at = [i for i, row in enumerate(rows) if row["problem"] == problem]
        y = [methods.index(rows[i]["method"]) for i in at]
        tints = [look(words(rows[i]["method"]))["color"] for i in at]
        axes.scatter(certified[at], y, c=tints, label="certified")
        face = {"marker": "^", "facecolors": "white", "edgecolors": tints}
        axes.scatter(paper[at], y, label="the paper's, with the error that occurred", **face)
        axes.axvline(1, color="black", lw=0.8)
        axes.set(xscale="log", title=words(problem), xlabel="bound over measured gradient")
        write_ticks(axes.xaxis, (1,))
    panels[0].set_yticks(range(len(methods)), map(words, methods))
    panels[0].invert_yaxis()
    add_legend(figure, 2)
    return figure


def nesterov_by_cell(found: dict) -> Figure:
    """By how much Nesterov's step changes the mismatch, and where the bound changes sign."""
    rows = found["rows"]
    etas, betas = (sorted({row[name] for row in rows}) for name in ("eta", "beta"))
    change = np.zeros((len(betas), len(etas)))
    predicted = np.zeros_like(change)
    for row in rows:
        cell = betas.index(row["beta"]), etas.index(row["eta"])
        for kind, values in (("measured", change), ("bound", predicted)):
            plain, nesterov = row[kind]
            values[cell] = 100 * (nesterov / plain - 1)
    title = (
        f"The bound says when Nesterov's step helps in {np.mean([*map(agrees, rows)]):.0%} of"
    )
    figure, axes = begin(title + " cells", height=3.8)
    limit = abs(change).max()
    image = axes.imshow(change, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axes.contour(predicted, levels=[0], colors="black", linewidths=1.5)
    axes.set_xticks(range(0, len(etas), 4), [f"{eta:.2g}" for eta in etas[::4]])
    axes.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axes.set(xlabel="step size η", ylabel="β")
    figure.colorbar(image, label="change of ‖N - ∇f‖ by Nesterov's step, %")
    return figure


def quantiles_by_width(found: dict) -> Figure:
    """The lowest tenth of singular values by width, a line for every leaf, at every depth."""
    rows, depths = found["rows"], found["depths"]
    leaves = list(dict.fromkeys(row["leaf"] for row in rows))
    slopes = [spectra.exponent(rows, leaf, depths[-1], 0) for leaf in leaves]
    title = f"At step {depths[-1]} the lowest tenth of singular values falls with the width,\n"
    title += f"with exponents from {max(slopes):.2f} to {min(slopes):.2f}"
    figure, panels = begin(title, 1, len(depths), height=3.8, sharey=True)
    widths = sorted({row["width"] for row in rows})
    for axes, step in zip(panels, depths):
        for leaf in leaves:
            layer, _ = spectra.split(leaf)
            found_here = [r for r in rows if (r["leaf"], r["step"]) == (leaf, step)]
            y = [row["quantiles"][0] for row in found_here]
            axes.plot(widths, y, color=RAMP[layer - 1], lw=0.9, label=f"layer {layer}")
        guide = 0.3 * np.array(widths) ** -0.5
        axes.plot(widths, guide, ":", color="black", label="width to the power -1/2")
        axes.set(xscale="log", yscale="log", title=f"step {step}", xlabel="width")
        write_ticks(axes.xaxis, (1,))
        axes.set_xticks(widths, map(str, widths), minor=False)
        axes.minorticks_off()
    panels[0].set_ylabel("σ / ‖M‖, tenth percentile")
    add_legend(figure, 5)
    return figure


def loss_by_distance(found: dict) -> Figure:
    """The loss of every choice of methods by the cosine, and by s/a."""
    rows = found["rows"]
    title = (
        "Below a cosine of 0.9 with the exact factor the loss rises; s/a does not predict it"
    )
    figure, panels = begin(title, 1, 2, height=4.2, sharey=True)
    for name, row in rows.items():
        label, by_leaf = words(_family(name)), "by leaf" in name
        of_look = look(label) | {"ls": "", "mfc": "none" if by_leaf else None}
        of_look["label"] = f"{label}, by leaf" if by_leaf else label
        for axes, x in zip(panels, (row["cosine"], row["factor"])):
            axes.plot(x, np.mean(row["loss"]), **of_look)
    panels[0].set(xlabel="cosine, mean over leaves", ylabel="test loss")
    panels[0].invert_xaxis()
    panels[1].set(xlabel="s/a of the worst matrix")
    add_legend(figure, 4)
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "training": (training_by_step, ("training", "times")),
    "steps": (training_by_q, ("training",)),
    "causes": (causes_panel, ("causes",)),
    "polar": (polar_by_q, ("momenta",)),
    "rank": (rank_slopes, ("rank",)),
    "bounds": (bounds_by_method, ("bounds",)),
    "nesterov": (nesterov_by_cell, ("nesterov",)),
    "spectra": (quantiles_by_width, ("spectra",)),
    "leaves": (loss_by_distance, ("leaves",)),
}


def draw(folder: Path) -> None:
    """Every figure whose JSON is in the folder."""
    for name, (make, sources) in FIGURES.items():
        paths = [folder / f"{source}.json" for source in sources]
        if all(path.exists() for path in paths):
            keep(make(*(json.loads(path.read_text()) for path in paths)), folder, name)


def _with_range(axes: Axes, x: Iterable, ends: list[list[float]], label: str) -> None:
    """Means, and ranges as error bars."""
    mean, low, high = (np.array([f(runs) for runs in ends]) for f in (np.mean, min, max))
    axes.errorbar([*x], mean, [mean - low, high - mean], capsize=2, **look(label))


def _family(name: str) -> str:
    """What `words` makes a label of, of "polar_express:8" or "jordan by leaf, 0.9"."""
    family = re.split(r"[: ]", name)[0]
    known = {"svd": "SVD", "jordan": "Jordan", "polar_express": "Polar Express", "fast": "fast"}
    return known.get(family) or f"κ={family[-1]}"


def _slope(name: str) -> float:
    """Of the scalar map at 0."""
    return math.prod(stage[0] for stage in METHODS_BY_NAME[name].schedule)
