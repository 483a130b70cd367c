"""The comparison for processors that are not there, by their compilers."""

import pytest

from muon_optax import compare
from muon_optax.comparison import _estimated


@pytest.mark.parametrize(
    ("target", "svd"),
    [
        ("v5e", ("loops of unknown length count once", True)),
        ("h100", ("a call of a library, of which nothing is known", False)),
    ],
)
def test_times_for_a_target_are_estimates_and_say_what_they_leave_out(target, svd):
    found = compare("2x128x256", ["jordan", "optax", "svd"], target=target)
    jordan, optax, exact = found.times
    assert jordan.note == optax.note == "estimated"
    assert jordan.ms[0] > 0 and optax.ms[0] > 0
    assert (exact.note, exact.at_least, bool(exact.ms)) == (*svd, svd[1])
    assert found.verdict.startswith(f"By estimate, on {target}, ")
    assert not found.judgements


def test_a_program_that_is_not_compiled_in_time_has_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(_estimated, "_PATIENCE_S", 0.5)
    (time,) = compare("8x8", "jordan", target="v5e").times
    assert (time.ms, time.note) == ((), "not compiled in 0.5 s")
    assert "none" in str(compare("8x8", "jordan", target="v5e"))
