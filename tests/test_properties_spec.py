"""Strings as specs, drawn: any text is read or refused, and what is read means what it says."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

from muon_optax._leaves import LeafError
from muon_optax.dims import SpecError, view_of
from muon_optax.dims._spec import parse

EXECUTED = []
PYTHON = f"__import__('sys').modules[{__name__!r}].EXECUTED.append(1)"
TOKENS = [*"()[]=,-'_é² ", "...", "in", "out", "heads", "q", "0", "12", "007"]
TOKENS += ["\n", "\0", PYTHON, "lambda: in", "{out}"]
SEPARATED = [st.lists(st.sampled_from(TOKENS), max_size=12).map(s.join) for s in ("", " ")]


@examples(150)
@given(st.one_of(st.text(max_size=30), *SEPARATED))
@example("(in=6 out) " + PYTHON)
@example("in=² out")
@example("in=" + "9" * 5000 + " out")
def test_any_text_is_a_spec_or_an_error_that_names_leaf_and_text(text):
    try:
        view_of(text, "blocks/w", jnp.ones((6, 6)))
    except SpecError as error:
        assert "leaf 'blocks/w'" in str(error) and text.rstrip() in str(error)
    except LeafError as error:
        assert "leaf 'blocks/w'" in str(error) and repr(text) in str(error)
    assert not EXECUTED


@dataclass(frozen=True)
class Drawn:
    """A factor of an axis: its name, its length, the lengths of its parts."""

    name: str
    length: int
    parts: tuple[int, ...]
    said: str


@st.composite
def factors(draw, name, divided, sized):
    parts = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))) * divided
    length = sum(parts) if divided else draw(st.integers(1, 3))
    said = name + f"={length}" * sized
    if divided:
        silent = len(set(parts)) == 1 and draw(st.booleans())
        said += "[" + " ".join("p" if silent else f"p={part}" for part in parts) + "]"
    return Drawn(name, length, parts, said)


@st.composite
def specs(draw):
    """A string, the array's shape, and the factors of all its axes, one after another."""
    more = st.lists(st.sampled_from(["in", "out", "b", "layers"]), max_size=3)
    names = draw(more.flatmap(lambda more: st.permutations(["in", "out", *more])))
    sides = [i for i, name in enumerate(names) if name in ("in", "out")]
    divided = draw(st.sampled_from([None, *sides]))
    together = [draw(st.booleans()) for _ in names[1:]] + [False]
    axes, axis = [], []
    for i, name in enumerate(names):
        # One factor of an axis may leave its length to be found.
        free = not axis and draw(st.booleans())
        axis.append(draw(factors(name, i == divided, not free)))
        if not together[i]:
            axes.append(axis)
            axis = []
    leading = draw(st.lists(st.integers(1, 3), max_size=2)) if draw(st.booleans()) else None
    words = ["..."] * (leading is not None) + [said(axis) for axis in axes]
    front = [Drawn("", length, (), "") for length in leading or []]
    shape = (*(leading or []), *(math.prod(f.length for f in axis) for axis in axes))
    return " ".join(words), shape, front + [f for axis in axes for f in axis]


def said(axis):
    words = " ".join(factor.said for factor in axis)
    return words if len(axis) == 1 else f"({words})"


@examples(30)
@given(specs())
def test_every_entry_is_in_the_matrix_row_and_column_that_the_string_says(drawn):
    """By counting: of each side the index in its factors, the last of them fastest."""
    text, shape, factors = drawn
    x = np.arange(math.prod(shape)).reshape(shape)
    view = view_of(text, "w", x)
    stacks = view.to_matrices(x)
    np.testing.assert_array_equal(view.from_matrices(stacks, shape), x)
    part = np.zeros(x.size, int)
    place = {side: np.zeros(x.size, int) for side in ("batch", "in", "out")}
    index = np.indices([factor.length for factor in factors]).reshape(len(factors), -1)
    for i, factor in zip(index, factors):
        length = factor.length
        if factor.parts:
            ends = np.cumsum(factor.parts)
            part = np.searchsorted(ends, i, side="right")
            length = np.array(factor.parts)[part]
            i = i - ends[part] + length
        side = factor.name if factor.name in place else "batch"
        place[side] = place[side] * length + i
    for p, stack in enumerate(stacks):
        here = part == p
        found = np.asarray(stack)[tuple(where[here] for where in place.values())]
        np.testing.assert_array_equal(found, x.ravel()[here])
        assert stack.size == here.sum()


@examples(100)
@given(specs(), st.lists(st.sampled_from([" ", "  ", "\t", "\n"]), min_size=30, max_size=30))
def test_space_between_words_means_nothing(drawn, spaces):
    text = drawn[0]
    apart = {c: f" {c} " for c in "()[]="}
    words = "".join(apart.get(c, c) for c in text).split()
    spaced = "".join(word + space for word, space in zip(words, spaces * 9))
    found, expected = parse(spaced, "w"), parse(text, "w")
    assert without_positions(found) == without_positions(expected)


def without_positions(names):
    return names.leading, [[(f.name, f.size, f.parts) for f in axis] for axis in names.axes]
