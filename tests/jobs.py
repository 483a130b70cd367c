"""A small training job: its parameters, its steps, and a state saved and read back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

SHAPES = {
    "blocks": {"up": {"kernel": (6, 9), "bias": (9,)}, "down": {"kernel": (9, 6)}},
    "table": {"embedding": (12, 6)},
}


def draw(rng):
    is_shape = lambda x: isinstance(x, tuple)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s), jnp.float32), SHAPES, is_leaf=is_shape
    )


def steps(tx, params, state, count, seed):
    """The parameters after each step, and the last state."""
    rng, trajectory, update = np.random.default_rng(seed), [], jax.jit(tx.update)
    for _ in range(count):
        updates, state = update(draw(rng), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(params)
    return trajectory, state


def begun(tx, count=5):
    """A job after some steps: parameters and state."""
    params = draw(np.random.default_rng(0))
    trajectory, state = steps(tx, params, tx.init(params), count, seed=1)
    return trajectory[-1], state


def restored(folder, tree, like):
    """What Orbax reads back, by another process for all it knows."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", tree)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "state", like and jax.eval_shape(lambda: like))


def moments(state, label):
    return state.inner_states[label].inner_state[0]


def assert_same(ours, theirs, atol):
    for found, expected in zip(ours, theirs, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)
