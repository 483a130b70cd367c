"""Markdown tables, provenance and spread as text."""

import statistics

_NAMED = ("jax", "optax", "flax", "torch", "libtpu", "jax-cuda13-plugin", "nvidia-cuda-nvcc")


def markdown(header: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A table, the first columns to the left, the others to the right."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written(record: dict, header: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A table, and under it how it came about."""
    return f"{markdown(header, rows, left)}\n\n<sub>{made_by(record)}</sub>"


def made_by(record: dict) -> str:
    """One sentence on machine, versions, commit, command and date."""
    p = record["provenance"]
    runs = f"; runs at {', '.join(p['commits'])}" if "commits" in p else ""
    device = "" if p["device"] == "cpu" else f"{p['device']}; "
    versions = [f"{name} {p[name]}" for name in _NAMED if name in p]
    return (
        f"{device}{p['processor']}, {p['cores']} cores; {', '.join(versions)}, "
        f"Python {p['python']}; `{p['command']}` at {p['commit']}, {p['date']}{runs}."
    )


def short(value: float) -> str:
    """Three significant digits."""
    return f"{float(f'{value:.3g}'):g}"


def median(values: list[float]) -> str:
    """Median and range, three significant digits each."""
    low, middle, high = (short(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def mean(values: list[float], digits: int) -> str:
    """Mean and range."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.mean, max))
    return f"{middle} ({low} to {high})"
