"""Fills docs/gallery.md: plans of public models, and what a rule by rank makes of their trees.

python tests/gallery.py
"""

import re
from pathlib import Path

import layouts

from muon_optax import dims, plan

PAGE = Path(__file__).parent.parent / "docs" / "gallery.md"


def matrices(view):
    """What Muon sees: the axes of every stack, whatever their names."""
    return view and (view.shape, view.batch, view.reduction, view.output, view.parts)


def rank_two(model):
    """What the rule "two axes are a matrix [in, out], all else is not" makes of the leaves.

    `(rightly treated, Muon's by mistake, Adam's by mistake, matrices seen wrongly)`
    """
    right = to_muon = to_adam = seen_wrongly = 0
    by_rank = {
        leaf.path: leaf.view for leaf in dims.assign(dims.RANK_TWO, layouts.params(model))
    }
    for path, (shape, reading) in layouts.leaves(model).items():
        # Sides, not axes: a square matrix may be seen as its transpose.
        intended, found = (
            view and view.sides
            for view in (dims.view_of(reading, path, layouts.struct(shape)), by_rank[path])
        )
        right += found == intended
        to_muon += bool(found and not intended)
        to_adam += bool(intended and not found)
        seen_wrongly += bool(found and intended and found != intended)
    return right, to_muon, to_adam, seen_wrongly


def rank_two_table():
    columns = [
        "model",
        "leaves",
        "right",
        "Muon's by mistake",
        "Adam's by mistake",
        "seen wrongly",
    ]
    rows = [[m, len(layouts.leaves(m)), *rank_two(m)] for m in layouts.DATA]
    total = ["**all**", *(sum(row[i] for row in rows) for i in range(1, len(columns)))]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows, total]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def block(name):
    """What stands under `<!-- made: NAME -->`."""
    if name == "rank two":
        return rank_two_table()
    made = plan(
        layouts.params(name), layouts.rules(name), learning_rate=0.02, adam_learning_rate=3e-3
    )
    return f"```text\n{made}\n```\n\n<sub>{layouts.DATA[name]['source']}</sub>"


def filled(text):
    """The page, its blocks made anew."""
    return re.sub(
        r"(<!-- made: ([\w ]+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{block(found[2])}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
