"""The tasks of the track: what is judged is not trained on, and Muon has every matrix."""

import base64
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from benchmarks import finetuning as study
from benchmarks.track import finetuning, gpt, images, lora, texts
from benchmarks.track.entries.muon_capped import PART, cap
from benchmarks.track.tasks import task
from muon_optax import plan

PRETRAINED = finetuning.pretrained
SMALL = gpt.init(gpt.Size(width=16, layers=1, heads=1, context=8), jax.random.key(0))
MODELS = ("gpt", "images", "lora")
KERNELS = ("kernel", "lora_a", "lora_b")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is trained on code before, and there are fewer images."""
    monkeypatch.setattr(images, "Size", partial(images.Size, pool=1000))
    monkeypatch.setattr(finetuning, "pretrained", lambda seed, **_: gpt.make().init(seed)[0])


@pytest.mark.parametrize(("text", "most"), [(texts.code, 0.2), (texts.prose, 1 / 80)])
def test_windows_that_are_judged_are_not_in_the_training_text(text, most):
    """Code shares headers and blank lines; prose one example of code, in Python 3.13."""
    parts = {name: bytes(part) for name, part in text().items()}
    for judged, others in (("tuning", ("train", "test")), ("test", ("train", "tuning"))):
        windows = gpt.judged(gpt.Size(), text()[judged]).astype(np.uint8)
        # Rules of tables, of at most four characters, say nothing.
        windows = [window for window in windows if len({*window.tolist()}) > 4]
        assert len(windows) > 80
        found = [any(bytes(window) in parts[name] for name in others) for window in windows]
        assert np.mean(found) <= most


def test_images_of_training_tuning_and_test_differ():
    on, size = task("images"), images.Size()
    lots = [images.images(0, size.pool, size.side)[0], on.tuning[0], on.test[0]]
    lots = [{picture.tobytes() for picture in lot} for lot in lots]
    assert [len(lot) for lot in lots] == [size.pool, size.judged, size.judged]
    assert len(set.union(*lots)) == size.pool + 2 * size.judged


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_gives_the_same_weights_and_batches_and_another_seed_others(name):
    on = task(name)

    def made(seed):
        return jax.tree.leaves((on.init(seed)[0], on.draw(np.random.default_rng(seed), 2)))

    first, again, other = made(5), made(5), made(6)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((x != y).any() for x, y in zip(first[:-1], other[:-1]))
    assert (first[-1] != other[-1]).any()


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_but_the_head_is_a_matrix(name):
    leaves = plan(task(name).init(0)[0], strict=True).leaves
    matrices = {leaf.path for leaf in leaves if leaf.optimizer == "Muon"}
    kernels = {leaf.path for leaf in leaves if leaf.path.split("/")[-1] in KERNELS}
    assert matrices == {path for path in kernels if "head" not in path}
    assert len(matrices) == {"images": 4, "lora": 24}.get(name, 12)
    assert all(len(leaf.matrices) == 1 for leaf in leaves if leaf.path in matrices)


def test_a_convolution_is_xla_s():
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    for stride in (1, 2):
        expected = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        # Sums of 18 products of normal numbers, in another order.
        np.testing.assert_allclose(images.convolve(x, kernel, stride), expected, atol=2e-5)


def test_lora_begins_at_its_base_and_then_adds_a_scaled_product():
    added = lora.factors(SMALL, jax.random.key(1))
    same = lora.merge(SMALL, added)
    jax.tree.map(np.testing.assert_array_equal, same, SMALL)
    pair = added["block_0"]["up"]
    pair["lora_b"] += 1.0
    moved = lora.merge(SMALL, added)["block_0"]["up"]["kernel"]
    expected = lora.ALPHA / lora.RANK * np.asarray(pair["lora_a"]) @ np.ones((8, 64))
    np.testing.assert_allclose(moved - SMALL["block_0"]["up"]["kernel"], expected, atol=1e-5)


def test_four_bases_serve_all_seeds(monkeypatch):
    first, keys = gpt.make().init(0)[0], []
    values = np.arange(sum(leaf.size for leaf in jax.tree.leaves(first)), dtype=np.float32)

    def remember(key, _):
        keys.append(key)
        return base64.b64encode(values.tobytes()).decode()

    monkeypatch.setattr(finetuning, "remembered", remember)
    one, *_ = (PRETRAINED(seed) for seed in (1, 5, 2))
    assert keys[0] == keys[1] != keys[2]
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, first)
    np.testing.assert_array_equal(ravel_pytree(one)[0], values)


def test_a_capped_step_is_at_most_a_part_of_its_matrix():
    matrix = {"long": np.ones((4, 4)), "short": np.ones((4, 4))}
    given = {"long": np.full((4, 4), -0.5), "short": np.full((4, 4), 0.1 * PART)}
    capped = cap(given, matrix)
    np.testing.assert_allclose(capped["long"], -PART, rtol=1e-5)
    np.testing.assert_array_equal(capped["short"], given["short"].astype(np.float32))


def test_a_diverged_rate_is_not_the_best_and_no_change_is_extrapolated():
    pairs = ([1.0, 4.0], [2.0, 4.0]), ([2.0, 16.0], [1.0, 2.0]), ([4.0, 1.0], [np.nan, 8.0])
    runs = [{"change": change, "tuning": loss} for change, loss in pairs]
    assert study.best(runs[::-1]) is runs[1]
    np.testing.assert_allclose(
        study.at_change(runs[:2], [2**0.5, 1.0], "tuning"), [1.5, np.nan]
    )
    # Of the second seed the highest rate changes the matrices least.
    np.testing.assert_allclose(study.at_change(runs, [1.0, 2.0], "tuning"), [2.0, 6.0])
