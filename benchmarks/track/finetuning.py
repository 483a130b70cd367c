"""The GPT trained on Python code, then on English prose: fine-tuning of all parameters."""

import base64
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.store import remembered
from benchmarks.track import entry, gpt, texts
from benchmarks.track.entry import Settings
from benchmarks.track.gpt import LARGE, Size
from benchmarks.track.task import Task

STEPS = 200
BASES = 4  # pre-trained models; a seed has that of its remainder
# What trains the models on code.
PRETRAINING = {name: entry.find(name).start for name in ("adamw", "muon")}


def make(large: bool = False) -> Task:
    """The task, or the larger one of an accelerator."""
    size = LARGE if large else Size()
    train, tuning, test = (texts.prose()[name] for name in ("train", "tuning", "test"))
    return Task(
        name="finetuning",
        title="Fine-tuning on prose",
        steps=STEPS,
        eval_every=20,
        target=1.4 if large else 2.2,
        init=lambda seed: (pretrained(seed, large=large), ()),
        loss=lambda params, _, tokens: gpt.loss(size, params, tokens),
        draw=partial(gpt.draw, size, train),
        tuning=gpt.judged(size, tuning),
        test=gpt.judged(size, test),
        start=Settings(1.5, 0.6, 1.0, 1.0),
        entries=("adamw", "adamw_one_rate", "sgd", "muon", "muon_again", "muon_capped", "svd"),
    )


def pretrained(seed: int, optimizer: str = "adamw", large: bool = False) -> Any:
    """The parameters after training on code, from memory if it was run before."""
    on, settings = gpt.make(large), PRETRAINING[optimizer]
    first, _ = on.init(seed % BASES)
    key = {
        "parameters": [on.name, large, on.steps, on.fingerprint()],
        "optimizer": [optimizer, entry.version(optimizer), *settings],
        "seed": seed % BASES,
    }
    flat, restore = ravel_pytree(first)

    def train() -> str:
        from benchmarks.track.training import Job, follow  # which imports the tasks

        job = Job("gpt", optimizer, settings, seed % BASES, on.steps, large=large)
        *_, last = follow(job, first, ())
        return base64.b64encode(np.asarray(ravel_pytree(last)[0]).tobytes()).decode()

    found = np.frombuffer(base64.b64decode(remembered(key, train)), flat.dtype)
    return restore(jnp.asarray(found))
