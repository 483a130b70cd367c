"""The model that is trained: every kind of leaf there is for Muon and its fallback, all small.

Two blocks of causal attention and four experts each, scanned, the experts in bfloat16. What it
learns is the sum of two neighbouring tokens modulo their number.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import DTypeLike

from muon_optax import muon

TOKENS, CONTEXT, BATCH, WIDTH = 16, 8, 16, 32


class Leaf(NamedTuple):
    """A parameter; without a spec it is the fallback's."""

    shape: tuple[int, ...]
    spec: str | None = None
    dtype: DTypeLike = jnp.float32

    @property
    def matrices(self) -> int:
        """How many matrices it holds."""
        return math.prod(self.shape[:-2]) if self.spec else 0


LEAVES = {
    "attention": Leaf((2, 4, WIDTH, WIDTH), "layers qkvo in out"),
    "bias": Leaf((TOKENS,)),
    "down": Leaf((2, 4, 2 * WIDTH, WIDTH), "layers experts in out", jnp.bfloat16),
    "embedding": Leaf((TOKENS, WIDTH)),
    "lm_head": Leaf((WIDTH, TOKENS)),
    "positions": Leaf((CONTEXT, WIDTH)),
    "router": Leaf((2, WIDTH, 4)),
    "up": Leaf((2, 4, WIDTH, 2 * WIDTH), "layers experts in out", jnp.bfloat16),
}  # sorted, as JAX has the leaves of a dict
BLOCKS = ("attention", "down", "router", "up")


def init() -> dict[str, Array]:
    """Parameters, always the same."""
    rng = np.random.default_rng(0)

    def draw(leaf: Leaf) -> Array:
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 1
        return jnp.asarray(rng.standard_normal(leaf.shape) / math.sqrt(fan_in), leaf.dtype)

    return {name: draw(leaf) for name, leaf in LEAVES.items()}


def optimizer(steps: int) -> optax.GradientTransformation:
    """Muon that skips what is not finite, its rates annealed over all steps."""
    # Unclipped, the square of 1e30 is an infinite second moment, and stays one.
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    return muon(
        optax.cosine_decay_schedule(5e-3, steps),
        weight_decay=0.1,
        fallback=optax.chain(optax.clip_by_block_rms(1.0), adam),
        dims={name: leaf.spec for name, leaf in LEAVES.items()},
        on_nonfinite="skip",
    )


def loss(params: dict[str, Array], step: Array) -> Array:
    """Mean negative log-likelihood on the tokens of a step, in nats."""
    key = jax.random.fold_in(jax.random.key(0), step)
    tokens = jax.random.randint(key, (BATCH, CONTEXT), 0, TOKENS)
    x = params["embedding"][tokens] + params["positions"]
    x, _ = jax.lax.scan(_block, x, {name: params[name] for name in BLOCKS})
    logits = _normed(x) @ params["lm_head"] + params["bias"]
    sums = (tokens[:, 1:] + tokens[:, :-1]) % TOKENS
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, 1:], sums).mean()


def _block(x: Array, weights: dict[str, Array]) -> tuple[Array, None]:
    *qkv, out = weights["attention"]
    q, k, v = (_normed(x) @ w for w in qkv)
    scores = jnp.where(jnp.tri(CONTEXT), q @ k.mT / math.sqrt(WIDTH), -jnp.inf)
    x += jax.nn.softmax(scores) @ v @ out
    gates = jax.nn.softmax(_normed(x) @ weights["router"])
    hidden = jax.nn.gelu(jnp.einsum("btd,edh->bteh", _normed(x), weights["up"]))
    return x + jnp.einsum("bteh,ehd,bte->btd", hidden, weights["down"], gates), None


def _normed(x: Array) -> Array:
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
