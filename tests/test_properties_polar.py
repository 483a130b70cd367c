"""The laws of a polar method, on matrices that hypothesis draws: any spectrum, scale and dtype.

Every example is a batch, and all methods take it in one program.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import (
    BATCH,
    KINDS,
    METHODS,
    SCHEDULED,
    SPECTRAL,
    every_polar,
    examples,
    exponents,
    finite_matrices,
    kind,
    matrices,
    normalized,
    rounding,
    same_bits,
    short_numbers,
)
from reference import random_isometry, singular_values, wide

from muon_optax import theory

pytestmark = pytest.mark.parametrize(("dtype", "shape"), KINDS, ids=str)


@pytest.fixture(autouse=True)
def wide_types(x64):
    """float64 and complex128 among the dtypes; the others stay what they are."""


def distances(found, expected):
    """In the operator norm, the largest of a batch."""
    return singular_values(found - expected).max()


def test_a_power_of_two_changes_no_bit_over_the_whole_range(dtype, shape):
    @examples(8)
    @given(short_numbers(shape, dtype), exponents(dtype), exponents(dtype))
    def law(x, e, f):
        one, other = (every_polar(jnp.asarray(x * 2.0**p, dtype)) for p in (e, f))
        for name in METHODS:
            assert same_bits(one[name], other[name]), name

    law()


def test_signs_of_rows_and_columns_come_out_as_they_go_in(dtype, shape):
    """Bit for bit, for a sum of numbers with signs turned is the sum turned."""

    def signs(length):
        return st.lists(st.sampled_from([-1, 1]), min_size=length, max_size=length)

    @examples(8)
    @given(matrices(shape, dtype), signs(shape[0]), signs(shape[1]))
    def law(x, rows, columns):
        turn = jnp.asarray(np.outer(rows, columns), x.dtype)
        straight, turned = every_polar(x), every_polar(turn * x)
        for name in SCHEDULED:
            np.testing.assert_array_equal(turned[name], turn * straight[name], name)

    law()


def test_no_matrix_feels_its_neighbours_or_its_place(dtype, shape):
    """Bit for bit."""

    @examples(8)
    @given(
        matrices(shape, dtype),
        finite_matrices(shape, dtype),
        st.permutations(range(BATCH)),
        st.integers(0, BATCH),
    )
    def law(x, others, order, kept):
        x, order = np.asarray(x), np.array(order)
        among = np.concatenate([x[:kept], others[kept:]])[order]
        alone, beside = every_polar(x), every_polar(among)
        for name in METHODS:
            stayed = order < kept
            expected = np.asarray(alone[name])[order[stayed]]
            assert same_bits(np.asarray(beside[name])[stayed], expected), name

    law()


def test_singular_vectors_stay_and_singular_values_move_by_the_scalar_map(dtype, shape):
    @examples(8)
    @given(matrices(shape, dtype))
    def law(x):
        u, sigma, vh = np.linalg.svd(wide(x), full_matrices=False)
        found = every_polar(x)
        for name, method in SPECTRAL.items():
            moved = theory.scalar_map(method.schedule, normalized(method, sigma))
            expected = (u * moved[:, None]) @ vh
            assert distances(wide(found[name]), expected) <= rounding(method, x), name

    law()


def test_isometries_and_the_adjoint_commute_with_polar(dtype, shape):
    if jnp.finfo(dtype).bits < 32:
        return  # to round what is turned costs more than all the rest; see the next

    @examples(8)
    @given(matrices(shape, dtype), st.integers(0, 2**32 - 1))
    def law(x, seed):
        rng = np.random.default_rng(seed)
        left, right = (random_isometry(rng, side, side, kind(dtype)) for side in shape)
        turned = jnp.asarray((left @ wide(x) @ right).conj().mT, dtype)
        straight, found = every_polar(x), every_polar(turned)
        for name, method in SPECTRAL.items():
            expected = (left @ wide(straight[name]) @ right).conj().mT
            # Twice, for the input's rounding grows as well.
            assert distances(wide(found[name]), expected) <= 2 * rounding(method, x), name

    law()


def test_rows_and_columns_may_come_in_any_order(dtype, shape):
    @examples(8)
    @given(matrices(shape, dtype), *(st.permutations(range(side)) for side in shape))
    def law(x, rows, columns):
        def ordered(y):
            return wide(y)[:, rows][:, :, columns]

        straight, found = every_polar(x), every_polar(jnp.asarray(ordered(x), dtype))
        for name, method in SCHEDULED.items():
            off = distances(wide(found[name]), ordered(straight[name]))
            assert off <= rounding(method, x), name

    law()


def test_rows_and_columns_of_zeros_stay_zero(dtype, shape):
    """Exactly, among them whole matrices of zeros; no other null space does, in rounding."""

    @examples(8)
    @given(matrices(shape, dtype), *(st.sets(st.integers(0, side - 1)) for side in shape))
    def law(x, rows, columns):
        x, rows, columns = np.array(x), list(rows), list(columns)
        x[:, rows], x[:, :, columns] = 0, 0
        found = every_polar(x)
        for name in SCHEDULED:
            y = np.asarray(found[name])
            assert not y[:, rows].any() and not y[:, :, columns].any(), name

    law()
