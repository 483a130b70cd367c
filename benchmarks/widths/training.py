"""Short trainings of the byte GPT at a width: the change of activations, the best rate."""

from collections.abc import Callable, Iterable
from functools import cache, partial
from statistics import mean

import jax
import jax.numpy as jnp
import numpy as np
import optax
from corpus import windows
from flax import nnx
from jax import Array
from jax.typing import ArrayLike
from train_gpt import GPT, Config, cross_entropy, data, layout, schedule

from benchmarks.search import best_power
from benchmarks.store import remembered
from muon_optax import muon

SEEDS = {64: (0, 1), 128: (0, 1), 256: (0, 1), 512: (0,)}  # of every width
RATES = {"jordan": 0.04, "adam_rms": 0.02, "rms_to_rms": 0.04, "none": 0.04}
HEAD = 16  # the width of a head: wider models have more heads
CHECK_STEPS = 10


def configure(width: int, steps: int = 40, context: int = 64, batch: int = 8) -> Config:
    """The example's model and training at a width, with as many tokens at every width."""
    return Config(
        width=width,
        layers=2,
        heads=width // HEAD,
        context=context,
        batch=batch,
        steps=steps,
        eval_every=steps,
    )


def optimizer(
    rule: str, rate: optax.ScalarOrSchedule, rest_rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    """Muon for the matrices, Adam for the rest; clipped, as in the example; no decay."""
    tx = muon(rate, shape_scaling=rule, fallback=optax.adam(rest_rate, b2=0.95))
    return optax.chain(optax.clip_by_global_norm(1.0), tx)


@cache
def make_step(config: Config, rule: str) -> Callable:
    """A compiled step that gets both rates as arguments, so that all rates share it."""
    loss = partial(cross_entropy, layout(config)[0])

    def step(params, state, tokens, rate, rest_rate):
        grads = jax.grad(loss)(params, tokens)
        updates, state = optimizer(rule, rate, rest_rate).update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step)


@cache
def texts(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The data, read once."""
    return data(config)


@cache
def initialize(config: Config, seed: int) -> nnx.State:
    """The parameters before the first step."""
    return jax.jit(lambda: nnx.state(GPT(config, nnx.Rngs(seed))))()


@cache
def make_loss(config: Config) -> Callable:
    """The compiled mean loss of windows."""
    return jax.jit(partial(cross_entropy, layout(config)[0]))


def train(
    config: Config, rule: str, seed: int, rates: Iterable[tuple[ArrayLike, ArrayLike]]
) -> nnx.State:
    """The parameters after one step for every pair of rates, Muon's and that of the rest."""
    rng = np.random.default_rng(seed)  # all widths and rules see the same windows
    step, params = make_step(config, rule), initialize(config, seed)
    state = optimizer(rule, 0.0, 0.0).init(params)
    for rate, rest_rate in rates:
        tokens = windows(texts(config)[0], rng, config.batch, config.context + 1)
        params, state = step(params, state, tokens, rate, rest_rate)
    return params


def plain(config: Config) -> dict[str, float]:
    """What a run depends on."""
    kept = ("steps", "width", "layers", "heads", "context", "batch", "rest_lr")
    return {name: getattr(config, name) for name in kept}


# The best rate


def final_loss(config: Config, rule: str, rate: float, seed: int) -> float:
    """The held-out loss after the last step, from memory if it was run before."""
    key = {"widths": plain(config), "rule": rule, "rate": rate, "seed": seed}

    def compute() -> float:
        steps = np.arange(config.steps)
        rates, rest_rates = (schedule(config, r)(steps) for r in (rate, config.rest_lr))
        params = train(config, rule, seed, zip(np.asarray(rates), np.asarray(rest_rates)))
        return float(make_loss(config)(params, texts(config)[1]))

    return remembered(key, compute)


def search(config: Config, rule: str, start: int, also: int) -> dict:
    """The best power of 2 times the rule's rate, and every loss.

    The search begins at the power `start`, and tries `also` in any case.
    """
    seeds = SEEDS.get(config.width, (0,))

    def losses(k: int) -> list[float]:
        return [final_loss(config, rule, RATES[rule] * 2.0**k, seed) for seed in seeds]

    best, tried = best_power(lambda k: mean(losses(start + k)))
    powers = sorted({start + k for k in tried} | {also})
    rates = [{"rate": RATES[rule] * 2.0**k, "losses": losses(k)} for k in powers]
    return {"rule": rule, "width": config.width, "power": start + best, "rates": rates}


# The coordinate check


@cache
def make_activations(config: Config) -> Callable:
    """The compiled `activations` of parameters and tokens."""
    return jax.jit(partial(activations, layout(config)[0]))


def activations(graph: nnx.GraphDef, params: nnx.State, tokens: Array) -> dict[str, Array]:
    """The residual stream after every attention and every MLP, and the logits."""
    model, found = nnx.merge(graph, params), {}
    x = model.tokens(tokens) + model.positions(jnp.arange(tokens.shape[1]))
    mask = nnx.make_causal_mask(tokens)
    for number, block in enumerate(model.blocks, 1):
        x = x + block.attention(block.norm1(x), mask=mask)
        found[f"attention {number}"] = x
        x = x + block.down(nnx.gelu(block.up(block.norm2(x))))
        found[f"MLP {number}"] = x
    return found | {"logits": model(tokens)}


def check_coordinates(config: Config, rule: str, rest_rate: float) -> dict:
    """The RMS of the change of every activation, after a few steps at constant rates.

    From memory if it was measured before.
    """
    rate = RATES[rule]
    what = {"rule": rule, "width": config.width, "rate": rate, "rest_rate": rest_rate}

    def compute() -> dict[str, float]:
        tokens, seen = texts(config)[1][:32, :-1], make_activations(config)
        after = seen(train(config, rule, 0, [(rate, rest_rate)] * CHECK_STEPS), tokens)
        before = seen(initialize(config, 0), tokens)
        return {k: float(jnp.sqrt(jnp.mean((after[k] - before[k]) ** 2))) for k in before}

    key = {"widths_check": plain(config), "check_steps": CHECK_STEPS} | what
    return what | {"change": remembered(key, compute)}
