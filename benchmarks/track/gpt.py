"""A small GPT on the bytes of Python code: the task on which every entry is compared.

Root-mean-square norms without parameters, learned positions, squared ReLU. Every matrix is one
that Muon trains; the two embeddings and the head are not.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from corpus import windows
from jax import Array

from benchmarks.track import texts
from benchmarks.track.task import Task


@dataclass(frozen=True)
class Size:
    """Of the model and of a batch."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    context: int = 64
    batch: int = 8
    judged: int = 96  # windows of an evaluation


LARGE = Size(width=512, layers=8, heads=8, context=256, batch=64, judged=256)


def make(large: bool = False, width: int = 64) -> Task:
    """The task, or the larger one of an accelerator, or a narrower one for two entries."""
    size = LARGE if large else Size(width=width)
    narrow = width < Size.width
    train, tuning, test = (texts.code()[name] for name in ("train", "tuning", "test"))
    return Task(
        name=f"gpt_{width}" if narrow else "gpt",
        title=f"GPT of width {size.width} on Python code",
        steps=2000 if large else 400,
        eval_every=50 if large else 25,
        target=1.4 if large else 2.2,
        init=lambda seed: (init(size, jax.random.key(seed)), ()),
        loss=lambda params, _, tokens: loss(size, params, tokens),
        draw=partial(draw, size, train),
        tuning=judged(size, tuning),
        test=judged(size, test),
        entries=("muon", "sgd") if narrow else (),
    )


def draw(size: Size, text: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Batches of windows: `[count, batch, context + 1]`."""
    return windows(text, rng, count, size.batch, size.context + 1)


def judged(size: Size, text: np.ndarray) -> np.ndarray:
    """The same windows every time."""
    return windows(text, np.random.default_rng(0), size.judged, size.context + 1)


def init(size: Size, key: Array) -> dict[str, Any]:
    """Parameters under the names that the rules of Flax know."""
    keys = iter(jax.random.split(key, 3 + 6 * size.layers))
    width = size.width

    def kernel(fan_in: int, fan_out: int) -> dict[str, Array]:
        return {"kernel": jax.random.normal(next(keys), (fan_in, fan_out)) * fan_in**-0.5}

    def table(rows: int) -> dict[str, Array]:
        return {"embedding": 0.02 * jax.random.normal(next(keys), (rows, width))}

    blocks = {
        f"block_{i}": {
            **{name: kernel(width, width) for name in ("query", "key", "value", "out")},
            "up": kernel(width, 4 * width),
            "down": kernel(4 * width, width),
        }
        for i in range(size.layers)
    }
    ends = {"tokens": table(256), "positions": table(size.context)}
    return ends | blocks | {"lm_head": kernel(width, 256)}


def loss(size: Size, params: dict[str, Any], tokens: Array) -> Array:
    """Mean negative log-likelihood of the next byte, in nats."""
    inputs, following = tokens[:, :-1], tokens[:, 1:]
    x = params["tokens"]["embedding"][inputs] + params["positions"]["embedding"]
    for i in range(size.layers):
        block = {name: leaf["kernel"] for name, leaf in params[f"block_{i}"].items()}
        x = x + attend(size.heads, block, normalize(x))
        hidden = jax.nn.relu(multiply(normalize(x), block["up"])) ** 2
        x = x + multiply(hidden, block["down"])
    logits = multiply(normalize(x), params["lm_head"]["kernel"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, following).mean()


def attend(heads: int, block: dict[str, Array], x: Array) -> Array:
    """Causal attention; heads are moved to the front, where a CPU multiplies them fastest."""
    batch, length, width = x.shape

    def split(name: str) -> Array:
        y = multiply(x, block[name]).reshape(batch, length, heads, -1)
        return y.swapaxes(1, 2)

    query, key, value = split("query"), split("key"), split("value")
    logits = query @ key.swapaxes(-1, -2) * (heads / width) ** 0.5
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, logits, -1e9), -1)
    return multiply((weights @ value).swapaxes(1, 2).reshape(x.shape), block["out"])


def normalize(x: Array) -> Array:
    """To a root mean square of 1 over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def multiply(x: Array, kernel: Array) -> Array:
    """`x @ kernel` as one product of matrices, which is also the gradient's form."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
