"""What to choose for each setting of Muon, and what the alternatives cost on the track."""

import statistics

from benchmarks.text import markdown
from benchmarks.track.tables import REFERENCE, Compared, Record, compare_all, finals, load

TASKS = {"gpt": "GPT", "images": "images"}
# Setting, what is recommended, and every alternative by its entry.
ADVICE: list[tuple[str, str, dict[str, str]]] = [
    (
        "optimizer of the matrices",
        "Muon",
        {"AdamW, two rates": "adamw", "SGD with momentum": "sgd"},
    ),
    (
        "`method`",
        '`"jordan"`, or `"fast"` if the optimizer takes much of the step time',
        {
            "`SVD()`": "svd",
            '`"fast"`': "fast",
            '`"jordan:3"`': "jordan_3",
            '`"jordan:1"`': "jordan_1",
        },
    ),
    ("`nesterov`", "`True`", {"`False`": "without_nesterov"}),
    (
        "`shape_scaling`",
        '`"jordan"`, or `"adam_rms"` to keep AdamW\'s learning rate',
        {'`"adam_rms"`': "adam_rms", '`"rms_to_rms"`': "rms_to_rms"},
    ),
    (
        "weight decay",
        "`weight_decay=0.1`, or cautious",
        {"cautious": "cautious_decay", "independent": "independent_decay"},
    ),
    (
        "after the polar step",
        "nothing, or `normalize_sides()` in a chain",
        {
            "`normalize_sides()`, Muon+": "muon_plus",
            "`scale_by_neuron_rms()`, NorMuon": "normuon",
        },
    ),
    (
        "not in the package",
        "",
        {
            "Muon+ of matrices": "muon_plus_matrices",
            "AdaMuon": "adamuon",
            "AdaMuon without signs": "adamuon_unsigned",
            "MuonEq": "muoneq",
            "MuonH": "muonh",
            "Muown": "muown",
        },
    ),
]


def table(machine: str) -> str:
    """A line for every alternative: its loss less that of the default, in percent."""
    columns = [load(machine, task) for task in TASKS]
    compared, rows = [compare_all(records) for records in columns], []
    for setting, write, alternatives in ADVICE:
        for text, name in alternatives.items():
            head = [setting, write] if name == next(iter(alternatives.values())) else ["", ""]
            cells = [cost(r, c.get(name)) for r, c in zip(columns, compared)]
            rows.append([*head, text, *cells])
    return markdown(["setting", "recommended", "alternative", *TASKS.values()], rows, left=3)


def cost(records: dict[str, Record], found: Compared | None) -> str:
    """A difference in percent of the reference's loss, and its verdict."""
    if found is None:
        return ""
    if found.verdict == "diverges":
        return found.verdict
    mean = statistics.mean(finals(records[REFERENCE]))
    gap, half = (100 * x / mean for x in found.gap)
    return f"{gap:+.1f} ± {half:.1f} %, {found.verdict}"
