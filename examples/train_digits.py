"""Classify scikit-learn's digits with a convolutional net in Flax linen, by Muon and by AdamW.

    python examples/train_digits.py

Muon reads convolution kernels as matrices `[height·width·in, out]`. AdamW trains the biases and
the head, which is found by name. The problem is small and easy: both end at similar losses.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from curves import LABELS, Curve, print_table, save_picture
from flax.training.train_state import TrainState
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from muon_optax import muon


@dataclass(frozen=True)
class Config:
    """All options; the defaults take about a minute on two CPU cores."""

    epochs: int = 12
    batch: int = 64
    adamw_lr: float = 1e-2
    muon_lr: float = 1e-2
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("build/digits")
    """The folder for curves.png."""


class ConvNet(nn.Module):
    """Two convolutions, one hidden layer, ten classes."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(32, (3, 3))(x))
        x = nn.relu(nn.Conv(64, (3, 3), strides=2)(x))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return nn.Dense(10, name="head")(x)


def make_optimizer(name: str, config: Config, steps: int) -> optax.GradientTransformation:
    """Cosine decay to zero, the same for both."""
    if name == "adamw":
        return optax.adamw(optax.cosine_decay_schedule(config.adamw_lr, steps))
    return muon(
        optax.cosine_decay_schedule(config.muon_lr, steps),
        adam_learning_rate=optax.cosine_decay_schedule(config.adamw_lr, steps),
    )


def loss_and_accuracy(params, images, labels):
    """Mean cross-entropy, and the fraction of right answers."""
    logits = ConvNet().apply({"params": params}, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (logits.argmax(-1) == labels).mean()


@jax.jit
def train_step(state: TrainState, images, labels) -> TrainState:
    grads = jax.grad(lambda p: loss_and_accuracy(p, images, labels)[0])(state.params)
    return state.apply_gradients(grads=grads)


def train(name: str, seed: int, config: Config, data) -> tuple[Curve, float]:
    """One run: its held-out loss by epoch, and its final held-out accuracy."""
    images, held_out_images, labels, held_out_labels = data
    steps = config.epochs * (len(images) // config.batch)
    params = ConvNet().init(jax.random.key(seed), images[:1])["params"]
    tx = make_optimizer(name, config, steps)
    state = TrainState.create(apply_fn=ConvNet().apply, params=params, tx=tx)
    rate = config.adamw_lr if name == "adamw" else config.muon_lr
    curve, rng, spent = Curve(name, rate, seed), np.random.default_rng(seed), 0.0
    evaluate = jax.jit(loss_and_accuracy)
    train_step(state, images[: config.batch], labels[: config.batch])  # compiles
    accuracy = 0.0
    for _ in range(config.epochs):
        order = rng.permutation(len(images))
        start = time.perf_counter()
        for i in range(len(images) // config.batch):
            batch = order[i * config.batch : (i + 1) * config.batch]
            state = train_step(state, images[batch], labels[batch])
        jax.block_until_ready(state)
        spent += time.perf_counter() - start
        loss, accuracy = evaluate(state.params, held_out_images, held_out_labels)
        curve.step.append(int(state.step))
        curve.seconds.append(spent)
        curve.loss.append(float(loss))
    return curve, float(accuracy)


def main(config: Config) -> None:
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    data = train_test_split(images, digits.target, test_size=0.25, random_state=0)
    data = [jnp.asarray(part) for part in data]
    runs = [(name, seed) for seed in config.seeds for name in ("adamw", "muon")]
    results = [train(*run, config, data) for run in track(runs, "training")]
    rows = [
        [
            f"{LABELS[c.optimizer]} (seed {c.seed})",
            f"{c.loss[-1]:.4f}",
            f"{100 * accuracy:.1f} %",
        ]
        for c, accuracy in results
    ]
    print_table(f"Digits, {config.epochs} epochs", ["optimizer", "loss", "accuracy"], rows)
    curves = [curve for curve, _ in results]
    picture = config.out / "curves.png"
    save_picture(picture, "A convolutional net on digits", "held-out loss", curves)
    print(f"Plot: {picture}")


if __name__ == "__main__":
    import tyro  # needed only for the command line

    main(tyro.cli(Config, description=__doc__))
