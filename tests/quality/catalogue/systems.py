"""Dtypes, tracing, checkpoints and meshes: rows 27 to 30, 52 to 60, and 62."""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers as D

from muon_optax.coefficients import YOU
from tests.quality.catalogue.checks import Wrong, check_close, check_refused, row
from tests.quality.catalogue.libraries import Library, NotOffered
from tests.quality.catalogue.steps import (
    FIVE,
    SCALE,
    SLOPE,
    TOLERANCE,
    check_kernel,
    exact_update,
    first_step,
    grads,
    matrix,
    params,
    run,
    x64,
)


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


@row(27, "bfloat16 params, float32 gradients; the converse", "updates of the params' dtype")
def mixed_dtypes(library: Library) -> None:
    """The state keeps its dtypes too, so that a loop can carry it."""
    for of_params, of_grads in (("bfloat16", "float32"), ("float32", "bfloat16")):
        tx, model, given = library.muon(0.1), params(), grads()
        model, given = _cast(model, of_params), _cast(given, of_grads)
        state = tx.init(model)
        updates, after = jax.eval_shape(tx.update, given, state, model)
        for path, update in updates.items():
            if update.dtype != of_params:
                raise Wrong(f"{of_grads} gradients: update of {path} is {update.dtype}")
        for before, now in zip(jax.tree.leaves(state), jax.tree.leaves(after)):
            if before.dtype != now.dtype:
                raise Wrong(f"{of_grads} gradients: state {before.dtype} becomes {now.dtype}")


@row(28, "float64 with and without x64", "to the precision of float64, else of float32")
def double(library: Library) -> None:
    g, expected = matrix(), exact_update(matrix())
    update, _ = first_step(library, jnp.asarray(g), eps=0.0)
    check_close(update, expected, TOLERANCE, "float32 update")
    with x64():
        update, _ = first_step(library, jnp.asarray(g), eps=0.0)
        check_close(
            update, expected, 4 * SLOPE * float(jnp.finfo("float64").eps), "float64 update"
        )


@row(29, "strict promotion, debug_nans, debug_infs, checking_leaks", "clean")
def strict_modes(library: Library) -> None:
    """Strict promotion for the polar step alone: optax's Adam fails under it."""
    zeros = jax.tree.map(jnp.zeros_like, params())
    whole = lambda given: run(library.muon(0.1), params(), given)
    kernel = grads()["kernel"]
    modes = {
        "strict": (
            jax.numpy_dtype_promotion("strict"),
            lambda: run(library.scale_by_muon(), kernel, kernel),
        ),
        "debug_nans": (jax.debug_nans(True), lambda: whole(zeros)),
        "debug_infs": (jax.debug_infs(True), lambda: whole(zeros)),
        "checking_leaks": (jax.checking_leaks(), lambda: whole(grads())),
    }
    seen = []
    for name, (mode, step) in modes.items():
        try:
            with mode:
                step()
        except Exception as error:
            seen.append(f"{name}: {type(error).__name__}")
    if seen:
        raise Wrong("; ".join(seen))


@row(30, "NumPy, strided, aliased, donated buffers", "as usual")
def buffers(library: Library) -> None:
    tx, given = library.muon(0.1), jax.tree.map(np.asarray, grads())
    step = jax.jit(tx.update)
    check_kernel(step(given, tx.init(params()), params())[0])
    doubled = np.asfortranarray(np.repeat(given["kernel"], 2, 1))
    check_kernel(step({**given, "kernel": doubled[:, ::2]}, tx.init(params()), params())[0])
    tree = grads()
    check_kernel(step(tree, tx.init(tree), tree)[0])
    donating = jax.jit(tx.update, donate_argnums=(0, 1))
    for _ in range(2):
        check_kernel(donating(grads(), tx.init(params()), params())[0])


@row(52, "two rules, or two specs, for one leaf", "the first, and the table names both; error")
def two_rules(library: Library) -> None:
    """Rules are ordered, specs are not."""
    rules = (("kernel$", D(0, 1)), ("^kernel$", None))
    library.muon(0.1, rules=rules)
    text, trained = library.plan(params(), rules=rules)
    if not trained["kernel"] or "^kernel$" not in text:
        raise Wrong("the table does not name the second rule")
    layer = {"kernel": jnp.ones((8, 12))}
    dims = {"layer": {"kernel": D(0, 1)}, "layer/kernel": D(1, 0), "bias": None, "kernel": None}
    step = lambda: run(library.muon(0.1, dims=dims), params(layer=layer), grads(layer=layer))
    check_refused("layer/kernel", {"two specs": lambda: step()[0]})


@row(53, "bias, gain, embedding to Muon by the user's spec", "done, and announced")
def explicit_spec(library: Library) -> None:
    """By a warning, or by the table of which leaf is trained how."""
    names = ("scale", "embedding")
    more = {name: jnp.asarray(matrix(seed=1), jnp.float32) for name in names}
    dims = {**dict.fromkeys(("kernel", *names), D(0, 1)), "bias": None}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        updates, _ = run(library.muon(0.1, dims=dims), params(**more), grads(**more))
    for name in names:
        check_close(
            updates[name],
            -0.1 * SCALE * exact_update(more[name]),
            TOLERANCE,
            f"{name}'s update",
        )
    text = " ".join(str(warning.message) for warning in seen)
    with suppress(NotOffered):
        text += library.plan(params(**more), dims=dims)[0]
    if not all(name in text for name in names):
        raise Wrong("no warning and no table")


@row(54, "steps under inject_hyperparams, traced steps", "as without, or error naming them")
def injected_steps(library: Library) -> None:
    expected, _ = run(library.muon(0.1, steps=3), params(), grads())
    injected = lambda: run(library.injected(0.1, steps=3), params(), grads())[0]
    traced = jax.jit(lambda n: run(library.muon(0.1, steps=n), params(), grads())[0])
    for how, call in {"injected": injected, "traced": lambda: traced(3)}.items():
        try:
            found = call()
        except Exception:
            check_refused("steps", {how: call})
        else:
            check_close(found["kernel"], expected["kernel"], TOLERANCE, f"{how} update")


@row(55, "the same step again", "compiled once")
def second_step(library: Library) -> None:
    """Three steps from an `init` that was compiled or not."""
    tx, traces = library.muon(0.1), []

    def step(given: Any, state: Any, model: Any) -> Any:
        traces.append(1)
        return tx.update(given, state, model)

    jitted = jax.jit(step)
    for init in (tx.init, jax.jit(tx.init)):
        state = init(params())
        for _ in range(3):
            _, state = jitted(grads(), state, params())
    if len(traces) > 1:
        raise Wrong(f"{len(traces)} traces")


@row(56, "a state made under another preset", "the present preset")
def other_preset(library: Library) -> None:
    """As from a checkpoint: one step with Jordan's numbers, the next with You's."""
    g = jnp.asarray(matrix(), jnp.float32)
    old, new = (library.scale_by_muon(coefficients=rows) for rows in (FIVE[0], YOU.stages))
    _, state = run(old, jnp.zeros_like(g), g)
    update, _ = jax.jit(new.update)(g, state, jnp.zeros_like(g))
    check_close(update, exact_update(g, YOU.stages), TOLERANCE)


@row(57, "a checkpoint cut short", "error, Orbax's")
def cut_checkpoint(library: Library) -> None:
    """The checkpoint is restored exactly; then every file loses its second half."""
    _, state = run(library.muon(0.1), params(), grads())
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        path = Path(folder) / "state"
        checkpointer.save(path, state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, state)
        for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored)):
            check_close(after, before, 0, "restored state")
        for file in filter(Path.is_file, path.rglob("*")):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        try:
            checkpointer.restore(path, state)
        except Exception:
            return
        raise Wrong("no error")


def _mesh(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))


@row(58, "sharded by rows, columns, both, layers; both kinds of axes", "as on one device")
def sharded(library: Library) -> None:
    """Updates and momentum have the sharding of the parameters."""
    cuts = {"rows": P("x"), "columns": P(None, "x"), "both": P("x", "y"), "layers": P("x")}
    shapes = {name: (4, 8, 12) if name == "layers" else (8, 12) for name in cuts}
    dims = {name: D(1, 2) if name == "layers" else D(0, 1) for name in cuts}
    given = {name: jnp.asarray(matrix(shape), jnp.float32) for name, shape in shapes.items()}
    expected, _ = run(library.muon(0.1, dims=dims), given, given)
    for kind in (AxisType.Auto, AxisType.Explicit):
        places = {name: NamedSharding(_mesh(kind), cut) for name, cut in cuts.items()}
        tx = library.muon(0.1, dims=dims, shardings=places)
        try:
            updates, state = run(tx, *[jax.device_put(given, places)] * 2)
        except Exception as error:
            raise Wrong(f"{kind.name} axes: {type(error).__name__}") from error
        leaves = jax.tree.leaves_with_path(state)
        momentum = {getattr(path[-1], "key", ""): x for path, x in leaves}
        for name, place in places.items():
            check_close(updates[name], expected[name], TOLERANCE, f"{kind.name} axes: {name}")
            for what, x in {"update": updates[name], "momentum": momentum[name]}.items():
                if not x.sharding.is_equivalent_to(place, x.ndim):
                    raise Wrong(f"{kind.name} axes: the {what} of {name} has another sharding")


@row(59, "nine rows on four devices", "as on one device, or an error")
def uneven(library: Library) -> None:
    """Under `jax.lax.with_sharding_constraint`, with and without `shardings=`."""
    g, place = (
        jnp.asarray(matrix((9, 12)), jnp.float32),
        NamedSharding(_mesh(AxisType.Auto), P("x")),
    )
    placed = lambda x: jax.lax.with_sharding_constraint(x, place)
    for shardings in (None, place):
        try:
            with warnings.catch_warnings(action="ignore"):
                tx = library.scale_by_muon(shardings=shardings)
                step = jax.jit(lambda g, state, tx=tx: tx.update(placed(g), state, placed(g)))
                update, _ = step(g, tx.init(g))
        except (TypeError, ValueError):
            continue
        check_close(update, exact_update(g), TOLERANCE)


@row(60, "step 2³¹ - 1; 2³² elements", "the count and the update stay; shapes right")
def large_numbers(library: Library) -> None:
    tx, most = library.muon(0.1), jnp.iinfo("int32").max
    is_count = lambda x: x.dtype == jnp.int32 and not x.ndim
    state = jax.tree.map(lambda x: x * 0 + most if is_count(x) else x, tx.init(params()))
    updates, state = jax.jit(tx.update)(grads(), state, params())
    counts = [int(x) for x in jax.tree.leaves(state) if is_count(x)]
    if set(counts) != {most}:
        raise Wrong(f"the count becomes {min(counts)}")
    check_kernel(updates)
    huge = {"kernel": jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32)}
    updates, _ = jax.eval_shape(tx.update, huge, jax.eval_shape(tx.init, huge), huge)
    if updates["kernel"].shape != (2**16, 2**16):
        raise Wrong(f"2³² elements get an update of {updates['kernel'].shape}")


@row(62, "two optimizers share parameters and a state", "each as if alone")
def shared_state(library: Library) -> None:
    rates = (0.1, 0.3)
    txs = [library.muon(rate) for rate in rates]
    steps, states = [jax.jit(tx.update) for tx in txs], [txs[0].init(params())] * 2
    for _ in range(2):
        for i, (rate, step) in enumerate(zip(rates, steps)):
            updates, states[i] = step(grads(), states[i], params())
            check_kernel(updates, rate)
