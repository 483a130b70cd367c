"""The scalar map and its extremes, against the published reference table."""

import numpy as np
import pytest

from muon_optax import theory
from muon_optax.coefficients import FAMILIES, FAST, POLAR_EXPRESS, minimax, taylor

PLAIN = {f"minimax{2 * k + 1}": minimax(8, 1e-3, kappa=k) for k in (1, 2, 3, 4)}
CUSHIONED = {"cushioned": minimax(8, 1e-3, cushion=0.02407327424182761)}
TABLE_FAMILIES = FAMILIES | PLAIN | CUSHIONED | {"fast": FAST}

# sup over [1e-3, 1] of |P_q(x) - 1|, q = 1..8, computed independently in float64.
SUP_ERRORS = {
    "taylor1": (0.99850, 0.99775, 0.99663, 0.99494, 0.99241, 0.98861, 0.98292, 0.97438),
    "taylor2": (0.99813, 0.99648, 0.99341, 0.98764, 0.97683, 0.95657, 0.91867, 0.84818),
    "taylor3": (0.99781, 0.99521, 0.98953, 0.97711, 0.94994, 0.89078, 0.76391, 0.51138),
    "taylor4": (0.99754, 0.99394, 0.98510, 0.96334, 0.90993, 0.78073, 0.49352, 0.092893),
    "jordan": (0.99656, 0.98814, 0.95914, 0.85959, 0.52946, 0.31817, 0.31817, 0.31817),
    "you": (0.99592, 0.98386, 0.93964, 0.82705, 0.52502),
    "minimax3": (0.99482, 0.98661, 0.96571, 0.91403, 0.79561, 0.56815, 0.26505, 0.053729),
    "minimax5": (0.99153, 0.96457, 0.85977, 0.54589, 0.11345, 9.1647e-4, 4.811e-10, 2e-16),
    "minimax7": (0.98823, 0.93268, 0.67297, 0.13719, 1.9508e-4, 1e-15, 2e-16, 2e-16),
    "minimax9": (0.98492, 0.89218, 0.44964, 9.8451e-3, 4.55e-11, 3e-16, 1e-16, 1e-16),
    "cushioned": (0.99171, 0.96597, 0.86572, 0.56042, 0.12356, 1.1849e-3, 1.04e-9, 2e-16),
    "fast": (0.99175, 0.96780, 0.89008, 0.73479, 0.38551, 0.20474, 0.14668, 0.14668),
    "polar_express": (0.99171, 0.96630, 0.86836, 0.57299, 0.14763, 4.4084e-3, 4.21e-7, 2e-15),
}


def test_sup_errors_equal_the_reference_table():
    for name, expected in SUP_ERRORS.items():
        schedules = [TABLE_FAMILIES[name].schedule(q) for q in range(1, len(expected) + 1)]
        found = [theory.sup_error(schedule, 1e-3) for schedule in schedules]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9, err_msg=name)


def test_the_table_covers_every_family_but_the_one_made_for_another_interval():
    assert set(FAMILIES) - set(SUP_ERRORS) == {"cans"}


@pytest.mark.parametrize("name", ["taylor2", "jordan", "minimax9", "cans"])
def test_image_is_what_a_dense_grid_sees(name):
    schedule = TABLE_FAMILIES[name].schedule(3)
    values = theory.scalar_map(schedule, np.geomspace(1e-3, 1, 200_001))
    smallest, largest = theory.image(schedule, 1e-3)
    assert smallest - 1e-12 <= values.min() <= smallest + 1e-6
    assert largest - 1e-6 <= values.max() <= largest + 1e-12


def test_image_finds_the_overshoot_between_the_ends():
    """Jordan's map rises to 1.2024 inside [0, 1] although it ends at 0.701."""
    assert theory.image(FAMILIES["jordan"].schedule(1), 0.0)[1] == pytest.approx(
        1.20237, abs=1e-5
    )
    assert theory.scalar_map(FAMILIES["jordan"].schedule(1), 1.0) == pytest.approx(0.701)


def test_sup_error_counts_what_lies_above_one_too():
    assert theory.sup_error(((2.0,),), 0.9) == pytest.approx(1.0)
    assert theory.sup_error(((0.5,),), 0.9) == pytest.approx(0.55)


@pytest.mark.parametrize("kappa", [1, 2, 5])
def test_taylor_maps_the_unit_interval_monotonically_into_itself(kappa):
    values = theory.scalar_map(taylor(kappa).schedule(3), np.linspace(0, 1, 10_001))
    assert np.diff(values).min() > -20 * np.finfo(float).eps
    assert values[0] == 0 and values[-1] == pytest.approx(1.0, abs=1e-12)


def test_image_refuses_an_empty_interval():
    with pytest.raises(ValueError, match=r"lower=2.* exceeds upper=1.0"):
        theory.image(POLAR_EXPRESS.schedule(1), 2.0)
