"""Plants faults by hand, one by one, and sees which tests of numerics fail.

A fault that one of its tests does not see is an error.
"""

from functools import partial

from benchmarks.record import provenance, save


def main(smoke: bool = False) -> None:
    """Plant all of them and keep what failed; with `smoke` the first whose tests are quick."""
    # Here, as the tables of the docs need none of what runs tests.
    from benchmarks.faults.planting import FAULTS, failing, known_tests
    from benchmarks.mutation import children

    children.prepare()
    made_by = children.call(60.0, provenance)  # it makes a backend; this process may not
    tests = known_tests()
    faults = [f for f in FAULTS if f.what == "roundings forgotten"] if smoke else FAULTS
    seen = children.each(partial(failing, tests=tests), faults, "faults")
    if smoke:
        print(*zip(faults, seen), sep="\n")
        return
    rows = [
        {"what": fault.what, "path": fault.path, "seen_by": names}
        for fault, names in zip(faults, seen)
    ]
    save("faults", made_by, {"tests": sum(map(len, tests.values())), "faults": rows})
