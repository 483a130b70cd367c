"""Train a byte-level GPT on the sources of Python's standard library, by Muon and by AdamW.

    python examples/train_gpt.py                        # both, at their best learning rates
    python examples/train_gpt.py --optimizers adamw adamw_two muon --seeds 0 1 2
    python examples/train_gpt.py --sweep                # find those rates again
    python examples/train_gpt.py --width 768 --layers 12 --method polar_express
    python examples/train_gpt.py --mesh data=4,fsdp=2 --checkpoint build/checkpoints

The runs take turns, a few steps each, so that a busy machine slows all of them equally.
"""

import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checkpoints import keep
from corpus import corpus, windows
from curves import LABELS, Curve, report
from flax import nnx
from launch import join
from mesh import (
    batch_sharding,
    compiler_options,
    distribute,
    make_mesh,
    parameter_shardings,
)
from progress import Progress

from muon_optax import FLAX, METHODS, dims, muon, place_state

SWEEP = {
    "adamw": (1e-3, 2e-3, 3e-3, 6e-3, 1e-2),
    "adamw_two": (1e-3, 2e-3, 3e-3, 6e-3, 1e-2),
    "muon": (5e-3, 1e-2, 2e-2, 4e-2, 8e-2),
}


@dataclass(frozen=True)
class Config:
    """All options; the defaults take about two minutes on two CPU cores."""

    optimizers: tuple[str, ...] = ("adamw_two", "muon")
    """muon, adamw, or adamw_two: AdamW with a second rate for leaves that are not matrices."""
    adamw_lr: float = 3e-3
    """The peak learning rate of adamw, the best of the sweep."""
    adamw_two_lr: float = 2e-3
    """The peak learning rate of adamw_two for matrices, the best of the sweep."""
    muon_lr: float = 4e-2
    """The peak learning rate of muon for matrices, the best of the sweep."""
    rest_lr: float = 8e-3
    """The peak learning rate for leaves that are not matrices, in muon and adamw_two."""
    method: str = "jordan"
    """A polar method of `muon_optax.METHODS`."""
    steps: int = 400
    seeds: tuple[int, ...] = (0,)
    width: int = 128
    layers: int = 3
    heads: int = 4
    context: int = 96
    batch: int = 16
    eval_every: int = 10
    sweep: bool = False
    """Train at every learning rate of the sweep, not only at the best one."""
    out: Path = Path("build/gpt")
    """The folder for curves.json and curves.png."""
    mesh: str = ""
    """All devices along data, fsdp and tensor, such as data=4,fsdp=2; empty for one device."""
    checkpoint: Path | None = None
    """The folder to save to at every evaluation, and to continue from."""
    distributed: bool = False
    """Join the other processes that the cluster's launcher started."""

    def __post_init__(self):
        if self.steps % self.eval_every or not self.steps:
            raise ValueError(
                f"steps={self.steps}; use a multiple of eval_every={self.eval_every}"
            )


class Block(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.width
        self.norm1 = nnx.LayerNorm(width, use_bias=False, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            config.heads, width, use_bias=False, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(width, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, use_bias=False, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class GPT(nnx.Module):
    """A decoder over bytes, with learned positions."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(256, config.width, rngs=rngs)
        self.positions = nnx.Embed(config.context, config.width, rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(config.width, use_bias=False, rngs=rngs)
        self.lm_head = nnx.Linear(config.width, 256, use_bias=False, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.lm_head(self.norm(x))


def data(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The training text, and 128 windows of the held-out text."""
    text, held_out = corpus()
    rng = np.random.default_rng(0)
    return text, windows(held_out, rng, 128, config.context + 1)


@cache
def layout(config: Config) -> tuple[nnx.GraphDef, nnx.State]:
    """The model without its parameters, and their shardings."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: GPT(config, nnx.Rngs(0))))
    return graph, parameter_shardings(make_mesh(config.mesh), shapes)


def schedule(config: Config, peak: float, begin: int = 0) -> optax.Schedule:
    """Warm-up and cosine decay to 5 % for all optimizers, from step `begin` on."""
    warm_up = min(20, config.steps // 4)
    whole = optax.warmup_cosine_decay_schedule(0.0, peak, warm_up, config.steps, 0.05 * peak)
    return lambda step: whole(step + begin)


def make_optimizer(
    config: Config, name: str, rate: float, begin: int = 0
) -> optax.GradientTransformation:
    """One of the three optimizers with gradient clipping, from step `begin` on."""
    peak = schedule(config, rate, begin)
    matrices = optax.adamw(peak, b2=0.95, weight_decay=0.05)
    rest = optax.adam(schedule(config, config.rest_lr, begin), b2=0.95)
    shardings = layout(config)[1]
    if name == "adamw":
        optimizer = matrices
    elif name == "adamw_two":
        optimizer = optax.partition({True: matrices, False: rest}, is_matrix)
    else:
        options = {"weight_decay": 0.05, "fallback": rest, "shardings": shardings}
        optimizer = muon(peak, METHODS[config.method], **options)
    return place_state(optax.chain(optax.clip_by_global_norm(1.0), optimizer), shardings)


def is_matrix(params):
    """A tree of booleans: the leaves that Muon would train."""
    views = dims.resolve(FLAX, params)
    return jax.tree.structure(params).unflatten([view is not None for view in views])


def cross_entropy(graph, params, tokens):
    """Mean negative log-likelihood of the next byte, in nats."""
    logits = nnx.merge(graph, params)(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


class Run:
    """One model under one optimizer, trained a few steps at a time."""

    def __init__(
        self,
        config: Config,
        optimizer: optax.GradientTransformation,
        curve: Curve,
        text: np.ndarray,
    ):
        self.config, self.curve, self.text = config, curve, text
        self.rng = np.random.default_rng(curve.seed)  # all optimizers see the same windows
        self.mesh = make_mesh(config.mesh)
        graph, shardings = layout(config)

        def init():
            return nnx.state(GPT(config, nnx.Rngs(curve.seed)))

        # Under jit each device makes only its part of the parameters.
        self.params = jax.jit(init, out_shardings=shardings)()
        self.state = optimizer.init(self.params)
        self.loss = jax.jit(partial(cross_entropy, graph))

        def step(carry, tokens):
            params, state = carry
            grads = jax.grad(partial(cross_entropy, graph))(params, tokens)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = self.params, self.state
        train = jax.jit(
            lambda carry, batches: jax.lax.scan(step, carry, batches)[0],
            donate_argnums=0,
            out_shardings=jax.tree.map(lambda x: x.sharding, carry),
        )
        shape = (config.eval_every, config.batch, config.context + 1)
        cut = batch_sharding(self.mesh, shape)
        tokens = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=cut)
        self.train = train.lower(carry, tokens).compile(compiler_options(jax.default_backend()))

    def advance(self, held_out: np.ndarray) -> None:
        """Train and time `eval_every` steps, then evaluate."""
        config, curve = self.config, self.curve
        shape = (config.eval_every, config.batch, config.context + 1)
        batches = self.on_mesh(windows(self.text, self.rng, *shape))
        start = time.perf_counter()
        carry = self.train((self.params, self.state), batches)
        self.params, self.state = jax.block_until_ready(carry)
        spent = time.perf_counter() - start
        curve.seconds.append((curve.seconds[-1] if curve.seconds else 0.0) + spent)
        curve.step.append((curve.step[-1] if curve.step else 0) + config.eval_every)
        curve.loss.append(float(self.loss(self.params, self.on_mesh(held_out))))

    def on_mesh(self, tokens: np.ndarray) -> jax.Array:
        """The same windows in every process, sharded over the devices."""
        return distribute(tokens, batch_sharding(self.mesh, tokens.shape))


def train_all(config: Config) -> list[Curve]:
    """Train with every optimizer, learning rate and seed; optimizers take turns."""
    text, held_out = data(config)
    rates = SWEEP if config.sweep else {n: (getattr(config, f"{n}_lr"),) for n in SWEEP}
    rounds = [
        (seed, [(name, rates[name][trial]) for name in config.optimizers])
        for seed in config.seeds
        for trial in range(len(rates["muon"]))
    ]
    curves = []
    with Progress(disable=jax.process_index() > 0) as progress:
        for number, (seed, pairs) in enumerate(rounds):
            runs = []
            for name, rate in pairs:
                progress.show(f"compiling {LABELS[name]}")
                optimizer = make_optimizer(config, name, rate)
                runs.append(Run(config, optimizer, Curve(name, rate, seed), text))
            progress.span = number / len(rounds), (number + 1) / len(rounds)
            train_in_turns(config, runs, held_out, progress)
            curves += [run.curve for run in runs]
    return curves


def train_in_turns(config: Config, runs: list[Run], held_out, progress: Progress) -> None:
    """Train all runs to the end, `eval_every` steps each in turn."""
    kept = keep(config.checkpoint, runs)
    progress.show("training, the first steps", 0.0)
    for turn in range(config.steps // config.eval_every):
        for run in (run for run in runs if len(run.curve.step) == turn):
            run.advance(held_out)
        for checkpoints in kept:
            checkpoints.save()
        step = config.eval_every * (turn + 1)
        losses = [f"{LABELS[r.curve.optimizer]} {r.curve.loss[-1]:.3f}" for r in runs]
        said = f"training, step {step} of {config.steps}: " + "; ".join(losses)
        progress.show(said, step / config.steps)
    for checkpoints in kept:
        checkpoints.close()


if __name__ == "__main__":
    import tyro  # needed only for the command line

    config = tyro.cli(Config, description=__doc__)
    join(config.distributed)
    curves = train_all(config)
    if jax.process_index() == 0:
        report(config, curves)
