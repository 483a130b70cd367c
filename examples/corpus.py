"""The text that the byte GPT is trained on, and windows drawn from it."""

import sysconfig
import zlib
from pathlib import Path

import numpy as np


def corpus() -> tuple[np.ndarray, np.ndarray]:
    """The standard library's sources as bytes: training files, and one in ten held out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    parts = {"train": bytearray(), "held_out": bytearray()}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not any(part in name for part in ("test", "site-packages", "dist-packages")):
            held_out = zlib.crc32(name.encode()) % 10 == 0
            parts["held_out" if held_out else "train"] += path.read_bytes()
    train, held_out = (np.frombuffer(bytes(p), np.uint8) for p in parts.values())
    return train, held_out


def windows(text: np.ndarray, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random windows of the text, `shape` with the window's length last, as int32."""
    *batch, length = shape
    starts = rng.integers(0, len(text) - length, size=batch)
    return text[starts[..., None] + np.arange(length)].astype(np.int32)
