"""What follows from the losses and the changes: best rates, their slopes, and tables."""

from collections.abc import Callable
from statistics import mean

import numpy as np

from benchmarks.record import load
from benchmarks.text import short, written


def slope(widths: list[int], values: list[float]) -> float:
    """The exponent p of `values ∝ width^p`, by least squares of the logarithms."""
    return float(np.polyfit(np.log(widths), np.log(values), 1)[0])


def best_rate(found: dict, seed: int | None = None) -> float:
    """The lowest point of the parabola through the best rate and its neighbors.

    It is a parabola in the logarithm of the rate, of one seed's losses or of the means.
    """
    rows = found["rates"]
    means = [mean(row["losses"]) for row in rows]
    at = int(np.argmin(means))
    near = rows[at - 1 : at + 2]
    losses = [mean(r["losses"]) if seed is None else r["losses"][seed] for r in near]
    a, b, _ = np.polyfit([-1, 0, 1], losses, 2)
    return rows[at]["rate"] * 2.0 ** float(-b / (2 * a))


def by_rule(record: dict) -> dict[str, list[dict]]:
    """The searches of every rule, from narrow to wide."""
    rules = dict.fromkeys(found["rule"] for found in record["searches"])
    return {r: [found for found in record["searches"] if found["rule"] == r] for r in rules}


def disagreement(searches: list[dict]) -> float:
    """The largest factor between the best rates of two seeds, over all widths with two."""
    pairs = [
        [best_rate(found, seed) for seed in (0, 1)]
        for found in searches
        if len(found["rates"][0]["losses"]) > 1
    ]
    return max(max(pair) / min(pair) for pair in pairs)


def price(searches: list[dict]) -> float:
    """What the widest model loses at the narrowest one's best power of 2, not at its own."""

    def losses(found: dict) -> dict[float, float]:
        return {row["rate"]: mean(row["losses"]) for row in found["rates"]}

    narrow, wide = losses(searches[0]), losses(searches[-1])
    return wide[min(narrow, key=narrow.__getitem__)] - min(wide.values())


def rate_table(machine: str) -> str:
    """The best rate of every rule at every width, how it moves, and what that costs."""
    record, rows = load(machine, "widths"), []
    for rule, searches in by_rule(record).items():
        widths = [found["width"] for found in searches]
        rates = [best_rate(found) for found in searches]
        cells = [*map(short, rates), f"{slope(widths, rates):+.2f}"]
        cells += [short(disagreement(searches)), f"{price(searches):.3f}"]
        rows.append([f"`{rule}`", *cells])
    header = ["`shape_scaling`", *(f"best at {width}" for width in widths), "slope"]
    header += [
        "seeds differ by a factor of up to",
        f"price of {widths[0]}'s rate at {widths[-1]}",
    ]
    return written(record, header, rows)


def changes(record: dict, rule: str, trained: bool) -> tuple[list[int], dict[str, list[float]]]:
    """The widths, and the change at every width of every activation."""
    checks = [c for c in record["checks"] if c["rule"] == rule]
    checks = [c for c in checks if bool(c["rest_rate"]) == trained]
    names = checks[0]["change"]
    return [c["width"] for c in checks], {n: [c["change"][n] for c in checks] for n in names}


def check_table(machine: str) -> str:
    """The slope of every activation's change over the width."""
    record, rows = load(machine, "widths"), []
    for trained, label in ((False, "not trained"), (True, "Adam")):
        for rule in by_rule(record):
            widths, found = changes(record, rule, trained)
            slopes = [f"{slope(widths, values):+.2f}" for values in found.values()]
            rows.append([label, f"`{rule}`", *slopes])
            label = ""
    return written(record, ["the rest", "`shape_scaling`", *found], rows, left=2)


TABLES: dict[str, Callable[[str], str]] = {"widths": rate_table, "widths_check": check_table}
