"""Fills docs/gallery.md: plans of public models, and how many leaves have the right label.

python tests/gallery.py
"""

import re
from collections import Counter
from pathlib import Path

import layouts

from muon_optax import plan

PAGE = Path(__file__).parent.parent / "docs" / "gallery.md"


def outcome_table():
    """This library and the rule by rank, by layout, for known models and those set aside."""
    ours = ("right", "marked", "false alarm", "refused", "wrong")
    theirs = ("right", "taken in", "left out", "seen wrongly")
    lines = [
        "| models | leaves | right | wrong, `(?)` | right, `(?)` | refused | wrong | "
        "by rank: right | non-matrix, taken | matrix, missed | matrix, wrong axes |",
        "| --- |" + " ---: |" * 10,
    ]
    for name, models in _groups().items():
        found = layouts.count(models)
        by_rank = sum((layouts.by_rank(model) for model in models), Counter())
        cells = [sum(found.values()), *(found[o] for o in ours), *(by_rank[o] for o in theirs)]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _groups():
    """The rows of the table: known models by layout, all of them, and those set aside."""
    groups = {}
    for model, entry in layouts.KNOWN.items():
        groups.setdefault(entry["rules"], []).append(model)
    rows = {f"`{rules}` ({len(models)})": models for rules, models in sorted(groups.items())}
    rows[f"**known** ({len(layouts.KNOWN)})"] = list(layouts.KNOWN)
    rows[f"**set aside** ({len(layouts.SET_ASIDE)})"] = list(layouts.SET_ASIDE)
    return rows


def block(name):
    """What stands under `<!-- made: NAME -->`.

    After `NAME without biases and gains` those lines of the plan are left out.
    """
    if name == "outcomes":
        return outcome_table()
    model, _, shortened = name.partition(" without ")
    made = plan(
        layouts.params(model),
        layouts.rules(model),
        learning_rate=0.02,
        adam_learning_rate=0.01,
    )
    lines = str(made).splitlines()
    if shortened:
        lines = [line for line in lines if not re.search("  (bias|gain) .* fallback ", line)]
    text = "\n".join(lines)
    return f"```text\n{text}\n```\n\n<sub>{layouts.DATA[model]['source']}</sub>"


def filled(text):
    """The page with its blocks made again."""
    return re.sub(
        r"(<!-- made: ([\w ]+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{block(found[2])}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
