"""A small model with every kind of leaf, and gradients with faults in some steps.

Two scanned blocks of causal attention and four experts, the experts in bfloat16. It learns the
sum of two neighbouring tokens modulo their number.
"""

import math
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import DTypeLike

from muon_optax import muon

SEED = 123  # sixty steps with it have faults in a matrix, in the fallback and everywhere
FAULTS = {"NaN": math.nan, "infinity": math.inf, "zero": 0.0, "times 1e30": 1e30}
# 1e30 is rare: after it a momentum keeps one direction for 1300 steps.
PROBABILITIES = [0.4, 0.4, 0.15, 0.05]
TOKENS, CONTEXT, BATCH, WIDTH = 16, 8, 16, 32


class Leaf(NamedTuple):
    """A parameter; the fallback trains those without a spec."""

    shape: tuple[int, ...]
    spec: str | None = None
    dtype: DTypeLike = jnp.float32

    @property
    def matrices(self) -> int:
        """The number of matrices in it."""
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
}  # sorted, as JAX sorts the keys of a dict
# Each matrix, and each leaf of the fallback, can be faulty alone; leaf after leaf.
PARTS = [name for name, leaf in LEAVES.items() for _ in range(leaf.matrices or 1)]
IS_MATRIX = np.array([LEAVES[name].matrices > 0 for name in PARTS])
BLOCKS = ("attention", "down", "router", "up")


def init() -> dict[str, Array]:
    """The initial parameters, the same in every process."""
    rng = np.random.default_rng(0)

    def draw(leaf: Leaf) -> Array:
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 1
        return jnp.asarray(rng.standard_normal(leaf.shape) / math.sqrt(fan_in), leaf.dtype)

    return {name: draw(leaf) for name, leaf in LEAVES.items()}


def optimizer(steps: int) -> optax.GradientTransformation:
    """Muon that skips gradients that are not finite, its rates annealed over all steps."""
    # Without the clip the second moment of 1e30 would be infinite for the rest of the run.
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
    logits = _rms_norm(x) @ params["lm_head"] + params["bias"]
    sums = (tokens[:, 1:] + tokens[:, :-1]) % TOKENS
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, 1:], sums).mean()


def _block(x: Array, weights: dict[str, Array]) -> tuple[Array, None]:
    *qkv, out = weights["attention"]
    q, k, v = (_rms_norm(x) @ w for w in qkv)
    scores = jnp.where(jnp.tri(CONTEXT), q @ k.mT / math.sqrt(WIDTH), -jnp.inf)
    x += jax.nn.softmax(scores) @ v @ out
    gates = jax.nn.softmax(_rms_norm(x) @ weights["router"])
    hidden = jax.nn.gelu(jnp.einsum("btd,edh->bteh", _rms_norm(x), weights["up"]))
    return x + jnp.einsum("bteh,ehd,bte->btd", hidden, weights["down"], gates), None


def _rms_norm(x: Array) -> Array:
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def fault(step: int) -> tuple[str, np.ndarray]:
    """The kind of a step's fault, "" in 49 of 50 steps, and a factor for each part."""
    rng, factors = np.random.default_rng([SEED, step]), np.ones(len(PARTS), np.float32)
    if rng.integers(50):
        return "", factors
    kind = str(rng.choice([*FAULTS], p=PROBABILITIES))
    where = rng.choice(["everywhere", "matrix", "fallback"])
    faulty = np.flatnonzero(~IS_MATRIX if where == "fallback" else IS_MATRIX)
    factors[... if where == "everywhere" else rng.choice(faulty)] = FAULTS[kind]
    return kind, factors


def add_fault(grads: dict[str, Array], factors: Array) -> dict[str, Array]:
    """Scale each part by its factor; one that is not finite goes into the last entry alone."""
    faulty = {}
    for name, leaf in LEAVES.items():
        g, first = grads[name], PARTS.index(name)
        parts = g.reshape(leaf.matrices or 1, -1)
        factor = factors[first : first + len(parts), None]
        is_last = jnp.arange(parts.shape[1]) == parts.shape[1] - 1
        scaled = jnp.where(jnp.isfinite(factor) | is_last, factor * parts, parts)
        faulty[name] = scaled.reshape(g.shape).astype(g.dtype)
    return faulty


def count_faults(steps: int) -> dict[str, dict[str, int]]:
    """Faults by kind, and how many matrices and fallback steps an optimizer has to skip."""
    kinds, matrices, fallback = Counter(), 0, 0
    for kind, factors in map(fault, range(steps)):
        kinds.update([kind] if kind else [])
        not_finite = ~np.isfinite(factors)
        matrices += int(not_finite[IS_MATRIX].sum())
        fallback += bool(not_finite[~IS_MATRIX].any())
    return {"kinds": dict(kinds), "skipped": {"matrices": matrices, "fallback": fallback}}
