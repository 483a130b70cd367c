"""The tasks by name; each is made once a process."""

from collections.abc import Callable
from functools import cache, partial

from benchmarks.track import finetuning, gpt, images, lora
from benchmarks.track.task import Task

MAKERS: dict[str, Callable[[bool], Task]] = {
    "gpt": gpt.make,
    # Narrower ones, whose matrices have a lower rank at most.
    "gpt_32": partial(gpt.make, width=32),
    "gpt_16": partial(gpt.make, width=16),
    "images": images.make,
    "finetuning": finetuning.make,
    "lora": lora.make,
}


@cache
def task(name: str, large: bool = False) -> Task:
    """The task of this name, or the larger one of an accelerator."""
    if name not in MAKERS:
        raise ValueError(f"task {name!r} does not exist; use one of {', '.join(MAKERS)}")
    return MAKERS[name](large)
