"""Texts of the Python that runs this: code to train, tune and test on, and prose for later.

The code is the standard library's, split by files: one in ten is for tuning, another for the
test. The prose is the language reference that `pydoc` ships, cut into pieces in turn.
"""

import sysconfig
import zlib
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(sysconfig.get_paths()["stdlib"])
PROSE = "pydoc_data"
LEFT_OUT = ("test", "site-packages", "dist-packages", "lib2to3", PROSE)
PIECE = 20_000  # bytes of prose


@cache
def code() -> dict[str, np.ndarray]:
    """The texts `train`, `tuning` and `test` of Python code, as bytes."""
    parts = {"train": bytearray(), "tuning": bytearray(), "test": bytearray()}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not any(part in name for part in LEFT_OUT):
            lot = zlib.crc32(name.encode()) % 10
            parts[{0: "tuning", 1: "test"}.get(lot, "train")] += path.read_bytes()
    return {name: np.frombuffer(bytes(text), np.uint8) for name, text in parts.items()}


@cache
def prose() -> dict[str, np.ndarray]:
    """The texts `train`, `tuning` and `test` of English prose on Python, as bytes."""
    import pydoc_data.topics

    # Topics repeat the paragraphs of others: as they are, half of the test is in the training.
    paragraphs = dict.fromkeys("\n\n".join(pydoc_data.topics.topics.values()).split("\n\n"))
    text = "\n\n".join(paragraphs).encode()
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    parts = {
        "train": [piece for i, piece in enumerate(pieces) if i % 10 > 1],
        "tuning": pieces[0::10],
        "test": pieces[1::10],
    }
    return {name: np.frombuffer(b"".join(part), np.uint8) for name, part in parts.items()}
