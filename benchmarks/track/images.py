"""A small convolutional net on images drawn by a seeded generator: ten shapes in clutter.

A shape is a closed curve with 0, 2, 3, 4 or 5 lobes, either full or an outline, of random
place, size, proportions, tilt and color, on colored waves, under a bar and noise.
The four kernels `[height, width, in, out]` are the matrices.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.track.entry import Settings
from benchmarks.track.gpt import multiply, normalize
from benchmarks.track.task import Task

LOBES = np.array([0, 2, 3, 4, 5])
CLASSES = 2 * len(LOBES)
KERNELS = ((4, 2), (3, 2), (2, 1), (2, 1))  # side and stride
CHUNK = 1000  # images drawn at once
Images = tuple[np.ndarray, np.ndarray]  # bytes [count, side, side, 3] and labels


@dataclass(frozen=True)
class Size:
    """Of the images, of the net and of a batch."""

    side: int = 20
    widths: tuple[int, ...] = (32, 64, 64, 64)
    pool: int = 20_000  # images that batches are drawn from
    batch: int = 64
    judged: int = 1000  # images of an evaluation


LARGE = Size(side=32, widths=(128, 256, 512, 512), pool=100_000, batch=256, judged=10_000)


def make(large: bool = False) -> Task:
    """The task, or the larger one of an accelerator."""
    size = LARGE if large else Size()
    return Task(
        name="images",
        title="Convolutions on drawn images",
        steps=2000 if large else 200,
        eval_every=50 if large else 20,
        target=0.1 if large else 0.5,
        init=lambda seed: (init(size, jax.random.key(seed)), ()),
        loss=lambda params, _, batch: loss(params, *batch),
        draw=partial(draw, size),
        tuning=images(1, size.judged, size.side),
        test=images(2, size.judged, size.side),
        start=Settings(4.0, 0.5, 1.0, 1.0),
    )


def draw(size: Size, rng: np.random.Generator, count: int) -> Images:
    """Batches of the training images: `[count, batch, side, side, 3]` and their labels."""
    pictures, labels = images(0, size.pool, size.side)
    chosen = rng.integers(len(labels), size=(count, size.batch))
    return pictures[chosen], labels[chosen]


@cache
def images(seed: int, count: int, side: int) -> Images:
    """The first images of a generator."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=count).astype(np.int32)
    chunks = [paint(rng, labels[i : i + CHUNK], side) for i in range(0, count, CHUNK)]
    return np.concatenate(chunks), labels


def paint(rng: np.random.Generator, labels: np.ndarray, side: int) -> np.ndarray:
    """An image of every label: waves, its shape on them, a bar over both, and noise."""
    ticks = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = (axis[..., None] for axis in np.meshgrid(ticks, ticks, indexing="ij"))

    def some(low: float, high: float, channels: int = 1) -> np.ndarray:
        shape = (len(labels), 1, 1, channels)
        return rng.uniform(low, high, shape).astype(np.float32)

    def across() -> np.ndarray:
        angle = some(0, np.pi)
        return x * np.cos(angle) + y * np.sin(angle)

    def color() -> np.ndarray:
        return some(0.3, 1, 3) * np.sign(some(-1, 1, 3))

    def cover(inside: np.ndarray) -> np.ndarray:
        """Of a pixel, by its distance to an edge."""
        return np.clip(0.5 + 0.5 * side * inside, 0, 1)

    image = some(-0.3, 0.3, 3)
    for _ in range(3):
        image = image + 0.12 * color() * np.sin(some(2, 12) * across() + some(0, 2 * np.pi))
    within = curve(x - some(-0.2, 0.2), y - some(-0.2, 0.2), some, labels)
    image = image + (color() - image) * cover(within)
    image = image + color() * cover(0.04 - abs(across() - some(-0.8, 0.8)))
    image = image + 0.1 * rng.standard_normal(image.shape, np.float32)
    return np.clip(128 + 64 * image, 0, 255).astype(np.uint8)


def curve(x: np.ndarray, y: np.ndarray, some: Any, labels: np.ndarray) -> np.ndarray:
    """How far points are inside the shape of a label, which is around the origin."""
    turn, ratio, radius = some(-0.4, 0.4), some(0.85, 1.18), some(0.6, 0.8)
    across = (x * np.cos(turn) + y * np.sin(turn)) * ratio
    along = y * np.cos(turn) - x * np.sin(turn)
    lobes, outline = (of[:, None, None, None] for of in (LOBES[labels // 2], labels % 2))
    edge = radius * (1 + 0.35 * np.cos(lobes * np.arctan2(along, across)))
    inside = edge - np.hypot(across, along)
    return np.where(outline, 0.1 - abs(inside), inside)


def init(size: Size, key: Array) -> dict[str, Any]:
    """Parameters under the names that the rules of Flax know."""
    params, channels = {}, 3
    for i, ((side, _), width) in enumerate(zip(KERNELS, size.widths)):
        shape, fan_in = (side, side, channels, width), side**2 * channels
        kernel = jax.random.normal(jax.random.fold_in(key, i), shape) * (2 / fan_in) ** 0.5
        params[f"conv_{i}"] = {"kernel": kernel, "bias": jnp.zeros(width)}
        channels = width
    return params | {"head": {"kernel": jnp.zeros((channels, CLASSES))}}


def loss(params: dict[str, Any], pictures: Array, labels: Array) -> Array:
    """Mean negative log-likelihood of the labels, in nats."""
    x = (pictures.astype(jnp.float32) - 128) / 64
    for i, (_, stride) in enumerate(KERNELS):
        layer = params[f"conv_{i}"]
        x = jax.nn.relu(normalize(convolve(x, layer["kernel"], stride)) + layer["bias"])
    logits = x.mean((1, 2)) @ params["head"]["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """Without padding, as one product of matrices, which is fastest on a CPU."""
    height, width, channels, features = kernel.shape
    rows, columns = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], (height, width)))
    patches = [
        x[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
        for i in range(height)
        for j in range(width)
    ]
    patches = jnp.concatenate(patches, -1)
    return multiply(patches, kernel.reshape(height * width * channels, features))
