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

from benchmarks.catalogue.judging import Wrong, agree, check_refused, row
from benchmarks.catalogue.libraries import Library, NotOffered
from benchmarks.catalogue.running import (
    FIVE,
    SCALE,
    SLOPE,
    WITHIN,
    check_kernel,
    exact_update,
    first_step,
    grads,
    matrix,
    params,
    run,
    x64,
)
from muon_optax.coefficients import YOU


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


@row(27, "bfloat16 params, float32 gradients; the converse", "updates of the params' dtype")
def mixed_dtypes(library: Library) -> None:
    """And the state keeps its dtypes, so that a loop may carry it."""
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
    """Against NumPy, within four roundings times the map's slope; ε = 0, not 1e-8."""
    g, expected = matrix(), exact_update(matrix())
    update, _ = first_step(library, jnp.asarray(g), eps=0.0)
    agree(update, expected, WITHIN, "float32 update")
    with x64():
        update, _ = first_step(library, jnp.asarray(g), eps=0.0)
        agree(update, expected, 4 * SLOPE * float(jnp.finfo("float64").eps), "float64 update")


@row(29, "strict promotion, debug_nans, debug_infs, checking_leaks", "clean")
def strict_modes(library: Library) -> None:
    """Strict: the polar step alone, as optax's Adam is not; the others: a model, zeros too."""
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
    """The kernel's first update under each."""
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


@row(52, "two rules, or two specs, for one leaf", "the first, and it is said; error")
def two_rules(library: Library) -> None:
    """Of ordered rules the first decides, and the other is named; specs have no order."""
    rules = (("kernel$", D(0, 1)), ("^kernel$", None))
    library.muon(0.1, rules=rules)
    text, trained = library.explain(params(), rules=rules)
    if not trained["kernel"] or "^kernel$" not in text:
        raise Wrong("nothing is said of the second rule")
    layer = {"kernel": jnp.ones((8, 12))}
    dims = {"layer": {"kernel": D(0, 1)}, "layer/kernel": D(1, 0), "bias": None, "kernel": None}
    step = lambda: run(library.muon(0.1, dims=dims), params(layer=layer), grads(layer=layer))
    check_refused("layer/kernel", {"two specs": lambda: step()[0]})


@row(53, "bias, gain, embedding to Muon by the user's spec", "done, and said once")
def told(library: Library) -> None:
    """Said: by a warning, or by the table of who is trained how."""
    names = ("scale", "embedding")
    more = {name: jnp.asarray(matrix(seed=1), jnp.float32) for name in names}
    dims = {**dict.fromkeys(("kernel", *names), D(0, 1)), "bias": None}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        updates, _ = run(library.muon(0.1, dims=dims), params(**more), grads(**more))
    for name in names:
        agree(
            updates[name], -0.1 * SCALE * exact_update(more[name]), WITHIN, f"{name}'s update"
        )
    said = " ".join(str(warning.message) for warning in seen)
    with suppress(NotOffered):
        said += library.explain(params(**more), dims=dims)[0]
    if not all(name in said for name in names):
        raise Wrong("nothing is said")


@row(54, "steps under inject_hyperparams, traced steps", "as without, or error naming them")
def injected_steps(library: Library) -> None:
    """Injected, nothing named static; and as an argument of a jitted function."""
    expected, _ = run(library.muon(0.1, steps=3), params(), grads())
    injected = lambda: run(library.injected(0.1, steps=3), params(), grads())[0]
    traced = jax.jit(lambda n: run(library.muon(0.1, steps=n), params(), grads())[0])
    for how, call in {"injected": injected, "traced": lambda: traced(3)}.items():
        try:
            found = call()
        except Exception:
            check_refused("steps", {how: call})
        else:
            agree(found["kernel"], expected["kernel"], WITHIN, f"{how} update")


@row(55, "the same step again", "compiled once")
def second_step(library: Library) -> None:
    """Three steps that hand their state on, from an `init` that was compiled or not."""
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


@row(56, "a state made under another preset", "the preset that is set now")
def other_preset(library: Library) -> None:
    """As from a checkpoint: one step under Jordan's numbers, the next under You's."""
    g = jnp.asarray(matrix(), jnp.float32)
    old, new = (library.scale_by_muon(coefficients=rows) for rows in (FIVE[0], _YOU))
    _, state = run(old, jnp.zeros_like(g), g)
    update, _ = jax.jit(new.update)(g, state, jnp.zeros_like(g))
    agree(update, exact_update(g, _YOU), WITHIN)


_YOU = YOU.stages


@row(57, "a checkpoint cut short", "error, Orbax's")
def cut_checkpoint(library: Library) -> None:
    """The whole one is restored as it was; then every file loses its second half."""
    _, state = run(library.muon(0.1), params(), grads())
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        path = Path(folder) / "state"
        checkpointer.save(path, state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, state)
        for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored)):
            agree(after, before, 0, "restored state")
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
    """Updates and momentum lie where the parameters do."""
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
            agree(updates[name], expected[name], WITHIN, f"{kind.name} axes: {name}")
            for what, x in {"update": updates[name], "momentum": momentum[name]}.items():
                if not x.sharding.is_equivalent_to(place, x.ndim):
                    raise Wrong(f"{kind.name} axes: the {what} of {name} lies elsewhere")


@row(59, "nine rows on four devices", "as on one device, or an error")
def uneven(library: Library) -> None:
    """Under `jax.lax.with_sharding_constraint`, the optimizer told of it or not."""
    g, place = (
        jnp.asarray(matrix((9, 12)), jnp.float32),
        NamedSharding(_mesh(AxisType.Auto), P("x")),
    )
    placed = lambda x: jax.lax.with_sharding_constraint(x, place)
    for shardings in (None, place):
        try:
            with warnings.catch_warnings(action="ignore"):  # that it is better told
                tx = library.scale_by_muon(shardings=shardings)
                step = jax.jit(lambda g, state, tx=tx: tx.update(placed(g), state, placed(g)))
                update, _ = step(g, tx.init(g))
        except (TypeError, ValueError):
            continue
        agree(update, exact_update(g), WITHIN)


@row(60, "step 2³¹ - 1; 2³² elements", "the count stays, the update as before; shapes right")
def large_numbers(library: Library) -> None:
    """The second is traced only."""
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


@row(62, "two optimizers share parameters and a state", "neither feels the other")
def shared_state(library: Library) -> None:
    """Interleaved from one state, as apart."""
    rates = (0.1, 0.3)
    txs = [library.muon(rate) for rate in rates]
    steps, states = [jax.jit(tx.update) for tx in txs], [txs[0].init(params())] * 2
    for _ in range(2):
        pairs = zip(steps, states)
        updates, states = zip(*[step(grads(), state, params()) for step, state in pairs])
        for rate, update in zip(rates, updates):
            check_kernel(update, rate)
