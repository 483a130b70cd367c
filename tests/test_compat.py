"""States that move between meshes, layouts of a state_dict and versions of a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from muon_optax import MuonState, compat, muon, scale_by_muon

PARAMS = {"up": {"kernel": jnp.ones((8, 16)), "bias": jnp.ones(16)}}
SPECS = {"up": {"kernel": P("x"), "bias": P()}}


def on_mesh(tree=PARAMS, devices=8):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("x",))
    return jax.tree.map(
        lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), tree, SPECS
    )


def shapes(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def make(params):
    return muon(0.1, shardings=jax.tree.map(lambda p: p.sharding, params))


def step(tx, params, state):
    return jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), state, params)[1]


def assert_placed_like(state, like):
    assert jax.tree.structure(state) == jax.tree.structure(like)
    for x, expected in zip(jax.tree.leaves(state), jax.tree.leaves(like)):
        assert x.sharding.is_equivalent_to(expected.sharding, x.ndim), (x.sharding, expected)
        assert x.dtype == expected.dtype


def one_moment(state, field="mu"):
    found = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(state)
        if f"{field}/up/kernel" in jax.tree_util.keystr(path, simple=True, separator="/")
    ]
    assert len(found) == 1
    return found[0]


# ------------------------------------------------------------------------- onto a mesh


@pytest.mark.parametrize("template", [lambda like: like, shapes], ids=["arrays", "shapes"])
def test_a_transferred_state_is_placed_like_the_new_one(template):
    adamw, params = optax.adamw(0.1), on_mesh()
    old = step(adamw, PARAMS, adamw.init(PARAMS))  # on one device
    tx = make(params)
    like = tx.init(params)
    moved = compat.transfer(old, template(like))
    assert_placed_like(moved, like)
    np.testing.assert_array_equal(one_moment(moved), old[0].mu["up"]["kernel"])
    step(tx, params, moved)  # raised "incompatible devices"


@pytest.mark.parametrize("devices", [1, 4])
def test_a_transferred_state_leaves_a_mesh_for_a_smaller_one(devices):
    params = on_mesh()
    tx = make(params)
    old = step(tx, params, tx.init(params))
    params = on_mesh(devices=devices)
    tx = make(params)
    like = tx.init(params)
    moved = compat.transfer(old, like)
    assert_placed_like(moved, like)
    step(tx, params, moved)


def test_counts_stay_free_to_go_where_the_parameters_are():
    """Optax creates counts uncommitted; committed to one device they would stop the step."""
    adamw = optax.adamw(0.1)
    device = jax.devices()[1]
    there = jax.device_put(PARAMS, device)
    old = jax.device_put(step(adamw, there, adamw.init(there)), device)
    params = on_mesh()
    moved = compat.transfer(old, adamw.init(params))
    assert int(moved[0].count) == 1 and not moved[0].count.committed
    step(adamw, params, moved)


def test_a_transferred_state_is_a_copy_on_the_same_mesh():
    params = on_mesh()
    tx = make(params)
    old = step(tx, params, tx.init(params))
    moved = compat.transfer(old, tx.init(params))
    jax.jit(tx.update, donate_argnums=1)(params, moved, params)
    assert one_moment(moved).is_deleted() and not one_moment(old).is_deleted()


@pytest.mark.parametrize("template", [lambda like: like, shapes], ids=["arrays", "shapes"])
def test_a_checkpoint_is_placed_like_the_new_state(template):
    params = on_mesh()
    saved = compat.to_checkpoint(step(muon(0.1), PARAMS, muon(0.1).init(PARAMS)))
    tx = make(params)
    like = tx.init(params)
    found = compat.from_checkpoint(saved, template(like))
    assert_placed_like(found, like)
    step(tx, params, found)


def test_a_transfer_can_be_traced():
    adamw, tx = optax.adamw(0.1), muon(0.1)
    old, like = step(adamw, PARAMS, adamw.init(PARAMS)), tx.init(PARAMS)
    traced = jax.jit(compat.transfer)(old, like)
    jax.tree.map(np.testing.assert_array_equal, traced, compat.transfer(old, like))


# ---------------------------------------------------------- the shapes that a state has had


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: (s, optax.EmptyState())], ids=["alone", "chain"]
)
def test_the_momentum_is_found_alone_and_in_a_chain(wrap):
    mu = {"w": jnp.full((2, 3), 2.0)}
    old = wrap(MuonState(jnp.asarray(7), mu))
    for state in (old, {"muon": old, "step": jnp.asarray(7)}, {"inner": old}):
        like = wrap(MuonState(jnp.asarray(0), {"w": jnp.zeros((2, 3))}))
        moved = compat.transfer(state, like)
        jax.tree.map(np.testing.assert_array_equal, moved, old)


def test_a_state_restored_without_a_template_is_lists_and_dicts():
    """As Orbax gives back a named tuple, a tuple and an empty state."""
    tx = scale_by_muon()
    params = {"w": jnp.ones((2, 3))}
    raw = [{"count": jnp.asarray(7), "mu": {"w": 2 * params["w"]}, "skipped": None}, None]
    moved = compat.transfer(raw, tx.init(params))
    assert sorted({float(x.max()) for x in jax.tree.leaves(moved)}) == [2.0, 7.0]


def test_a_checkpoint_of_version_1_is_carried_over_by_transfer():
    params = {"up": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    muons, adams = "inner_states.muon.inner_state.0", "inner_states.adam.inner_state.0"
    saved = {
        "version": np.asarray(1, np.int32),
        "leaves": {
            f"{muons}.muon.count": np.asarray(5, np.int32),
            f"{muons}.muon.mu.up.kernel": np.full((2, 3), 2.0, np.float32),
            f"{muons}.step": np.asarray(3, np.int32),
            f"{adams}.count": np.asarray(5, np.int32),
            f"{adams}.mu.up.bias": np.full(3, 3.0, np.float32),
            f"{adams}.nu.up.bias": np.full(3, 4.0, np.float32),
        },
    }
    like = muon(0.1).init(params)
    with pytest.raises(
        ValueError, match=r"version 1.*transfer\(saved, like=tx.init\(params\)\)"
    ):
        compat.from_checkpoint(saved, like)
    moved = compat.transfer(saved, like)
    assert sorted({float(x.max()) for x in jax.tree.leaves(moved)}) == [2.0, 3.0, 4.0, 5.0]
    np.testing.assert_array_equal(one_moment(moved), np.full((2, 3), 2.0))


def test_a_checkpoint_of_another_optimizer_is_carried_over_by_transfer():
    old, new = muon(lambda t: 0.1), muon(0.1)
    state = step(old, PARAMS, old.init(PARAMS))
    saved = compat.to_checkpoint(state)
    with pytest.raises(ValueError, match=r"that both have: transfer\(saved, like="):
        compat.from_checkpoint(saved, new.init(PARAMS))
    expected = compat.transfer(state, new.init(PARAMS))
    moved = compat.transfer(saved, new.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, moved, expected)


# ------------------------------------------------------------------- a state_dict of PyTorch

BUFFERS = {"a": np.arange(6.0).reshape(3, 2), "b": np.arange(4.0)}
OURS = {"a": {"kernel": jnp.zeros((2, 3))}, "b": jnp.zeros(4)}
NAMED = {
    "layers.0.bias": {"exp_avg": BUFFERS["b"], "exp_avg_sq": BUFFERS["b"] ** 2},
    "layers.0.weight": {"momentum_buffer": BUFFERS["a"]},
}


def assert_read(state_dict, names):
    ours, adam = compat.from_torch(state_dict, names, OURS, count=3)
    np.testing.assert_array_equal(ours.mu["a/kernel"], BUFFERS["a"].T)
    np.testing.assert_array_equal(adam.mu["b"], BUFFERS["b"])
    assert len(ours.mu) == len(adam.mu) == len(adam.nu) == 1


def test_a_state_dict_may_be_keyed_by_parameter_names():
    groups = [{"params": ["layers.0.weight"]}, {"params": ["layers.0.bias"]}]
    assert_read({"state": NAMED, "param_groups": groups}, ["a/kernel", "b"])


@pytest.mark.parametrize("convert", [int, str])
def test_positions_are_those_in_the_param_groups(convert):
    """Strings, as JSON has them, too."""
    state = dict(zip(map(convert, (4, 9)), NAMED.values()))
    groups = [{"params": [9]}, {"params": [4]}]
    assert_read({"state": state, "param_groups": groups}, ["a/kernel", "b"])


def test_without_param_groups_the_keys_are_positions():
    state = dict(zip((1, 0), NAMED.values()))
    assert_read({"state": state}, ["a/kernel", "b"])
    assert_read({"state": state, "param_groups": []}, ["a/kernel", "b"])


@pytest.mark.parametrize(
    ("state_dict", "names", "message"),
    [
        (
            {"state": NAMED},
            ["a/kernel", "b"],
            r"key 'layers.0.bias', but no param_groups .*whole optimizer.state_dict\(\)",
        ),
        (
            {"state": NAMED, "param_groups": [{"params": ["layers.0.weight"]}]},
            ["a/kernel", "b"],
            "parameter 'layers.0.bias' of the state_dict has no name",
        ),
        ({"state": {}}, ["b", "a/kernel", "b"], r"`names` has \['b'\] more than once"),
        ({"state": {-1: {}}}, ["b"], "the key -1, but no param_groups"),
    ],
)
def test_a_state_dict_of_unknown_order_is_refused(state_dict, names, message):
    with pytest.raises(ValueError, match=message):
        compat.from_torch(state_dict, names, OURS, count=3)


# ------------------------------------------------------------------ another library's rounding


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "f32"), ("tpu", "bf16")])
def test_rounded_products_take_bfloat16_operands_on_accelerators(platform, dtype):
    """Lowered on a CPU for either platform."""
    method = compat.RoundedNewtonSchulz("keller")
    traced = jax.jit(method.polar).trace(jnp.ones((4, 6)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products and all(f"x{dtype}>, tensor" in line for line in products), products


def test_a_consistent_rms_beyond_a_dtype_becomes_its_largest_number():
    tx, x = compat.scale_by_shape(consistent_rms=1e4), jnp.ones((1, 400), "float16")
    found = tx.update(x, tx.init(x))[0]
    assert found.dtype == "float16" and bool((found == jnp.finfo("float16").max).all())
