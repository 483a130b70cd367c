"""An update of `muon` is compiled without copies, into few kernels, and in place."""

import jax
import optax
from flax import nnx

from benchmarks.compiled import size_in_bytes
from benchmarks.programs import measure
from benchmarks.programs.measure import describe
from benchmarks.programs.models import Model
from muon_optax import NewtonSchulz, muon
from muon_optax.estimates._targets import TARGETS

# Upper bounds for two layers of width 256. Tighten them when the library gets better.
ESTIMATE = {"v5e": 0.31e6, "h100": 0.40e-3}  # cycles by XLA, seconds by a roofline
KERNELS = {"v5e": 70, "h100": 120}
BYTES_PER_PARAMETER = {"v5e": 21, "h100": 195}
TEMPORARY_OVER_PARAMETERS = {"v5e": 0.1, "h100": 2.5}  # on a GPU small matrices are stacked
COPIES = {"copy": 0, "transpose": 0, "pad": 0}  # of anything as large as a matrix


def test_nothing_as_large_as_a_matrix_is_copied_transposed_or_padded(row):
    assert row["copies"] == COPIES


def test_the_estimate_is_low(row, target):
    assert row[target.unit] <= ESTIMATE[target.name]


def test_kernels_are_few(row, target):
    assert row["kernels"] <= KERNELS[target.name]


def test_little_is_moved(row, target, model):
    assert row["bytes"] / model.size <= BYTES_PER_PARAMETER[target.name]


def test_little_memory_is_taken_beside_the_arguments(row, target):
    assert row["temp_over_parameters"] <= TEMPORARY_OVER_PARAMETERS[target.name]


def test_every_product_has_bfloat16_operands_and_a_float32_sum(row, target):
    rounded = {"bf16 × bf16 → bf16"} if target.kind == "tpu" else set()  # after the sum
    assert {*row["products"]} - rounded == {"bf16 × bf16 → f32"}


def test_parameters_and_state_are_updated_in_place(row):
    assert row["aliased_bytes"] >= row["parameter_bytes"] + row["state_bytes"]


def test_cycles_of_products_are_no_less_than_at_the_peak(row, target):
    """On a GPU they are no less by the model's own definition."""
    products = row["by_kind"]["products"]
    unit = target.clock if target.kind == "tpu" else 1.0
    assert products[target.unit] >= products["flops"] / target.peak["bf16"] * unit > 0


def test_float32_products_are_never_at_the_default_precision(target):
    """Which is TF32 on a GPU and bfloat16 on a TPU."""
    method = NewtonSchulz(compute_dtype="float32", steps=1)
    sharding = jax.sharding.SingleDeviceSharding(target.device())
    x = jax.ShapeDtypeStruct((128, 256), "float32", sharding=sharding)
    row, _ = describe(method.polar, (x,), target, x.size, None)
    assert {*row["products"]} == {"f32 × f32 → f32, highest precision"}


class Layer(nnx.Module):
    def __init__(self, width):
        for name, n in {"q": (width, 3 * width), "pr": (4 * width, width)}.items():
            setattr(self, name, nnx.Linear(*n, use_bias=False, rngs=nnx.Rngs(0)))
        self.ln = nnx.LayerNorm(width, use_bias=False, rngs=nnx.Rngs(0))


def test_a_chain_with_injected_rates_in_an_nnx_optimizer_has_the_same_products_in_place():
    target, width = TARGETS["h100"], 256
    sharding = jax.sharding.SingleDeviceSharding(target.device())

    def chain(learning_rate):
        return optax.chain(optax.clip_by_global_norm(1.0), muon(learning_rate))

    def make():
        tx = optax.inject_hyperparams(chain)(learning_rate=0.02)
        model = Layer(width)
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    def step(state, grads):
        model, optimizer = nnx.merge(graph, state)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer))

    graph, state = nnx.split(nnx.eval_shape(make))
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (state, nnx.state(nnx.eval_shape(make)[0], nnx.Param)),
    )
    sides = ((width, 3 * width), (4 * width, width))
    row, _ = describe(step, shapes, target, 3 * width**2, None, donate=(0,))
    tree = {
        name: {"kernel": jax.ShapeDtypeStruct(n, "float32")} for name, n in zip("ab", sides)
    }
    plain, _ = measure.update_of(muon(0.02), Model(tree, sides), target)
    assert row["products"] == plain["products"]
    assert row["aliased_bytes"] == size_in_bytes(shapes[0])
    assert row["copies"] == COPIES
