"""Real Flax models, and the role that every one of their leaves is meant to have."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from muon_optax._leaves import path_name


class LinenBlock(nn.Module):
    """Attention and MLP, as Flax's own examples write them; scannable."""

    @nn.compact
    def __call__(self, x, _=None):
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=4)(h, h)
        h = nn.Dense(64)(nn.LayerNorm()(x))
        return x + nn.Dense(32)(nn.gelu(h)), None


class LinenTransformer(nn.Module):
    scanned: bool = False

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 32)(tokens)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (1, 8, 32))
        if self.scanned:
            blocks = nn.scan(
                LinenBlock,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=3,
            )
            x, _ = blocks(name="blocks")(x, None)
        else:
            for _ in range(2):
                x, _ = LinenBlock()(x)
        return nn.Dense(50, name="lm_head")(nn.LayerNorm()(x))


class LinenConvNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3), name="conv_init")(x))
        x = nn.GroupNorm(4)(nn.Conv(32, (3, 3), strides=2)(nn.relu(x)))
        x = nn.relu(nn.ConvTranspose(16, (2, 2))(x)).mean(axis=(1, 2))
        return nn.Dense(10, name="head")(nn.relu(nn.Dense(24)(x)))


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(50, 32, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
        self.norm = nnx.RMSNorm(32, rngs=rngs)
        self.up = nnx.Linear(32, 64, rngs=rngs)
        self.down = nnx.Linear(64, 32, rngs=rngs)
        self.experts_up = nnx.Param(jax.random.normal(rngs.params(), (6, 32, 16)))
        self.router = nnx.Linear(32, 6, rngs=rngs)
        self.lm_head = nnx.Linear(32, 50, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens)
        x = x + self.attention(self.norm(x))
        experts = jnp.einsum("...d,edf->...ef", x, self.experts_up[...]).mean(-1)
        x = x + (nnx.softmax(self.router(x)) * experts).sum(-1, keepdims=True)
        return self.lm_head(x + self.down(nnx.gelu(self.up(x))))


class NnxStack(nnx.Module):
    """Three blocks under `nnx.vmap`: every parameter gets a leading axis."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0)
        def make(rngs):
            return NnxTransformer(rngs)

        self.blocks = make(rngs)


def linen_shapes(model, *inputs):
    """Of its parameters, without computing them."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs)["params"])


def linen_params(model, *inputs):
    return model.init(jax.random.key(0), *inputs)["params"]


def shapes(params):
    """Path → shape, for tables in tests."""
    return {path_name(p): np.shape(x) for p, x in jax.tree.leaves_with_path(params)}


def transformer_tree(layers=16, width=32, key=None):
    """A plain dict of 9 leaves a layer: 6 matrices of 2 distinct shapes, 3 vectors."""
    shapes = {
        "query": (width, width),
        "key": (width, width),
        "value": (width, width),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    key = jax.random.key(0) if key is None else key
    tree = {}
    for layer in range(layers):
        key, *keys = jax.random.split(key, len(shapes) + 1)
        tree[f"layer{layer}"] = {
            name: {"kernel": jax.random.normal(k, shape)}
            for k, (name, shape) in zip(keys, shapes.items())
        } | {
            "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
            "bias": jnp.ones(4),
        }
    return tree
