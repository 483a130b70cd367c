"""Plants faults by hand, one by one, and sees which tests of numerics fail.

A fault that one of its tests does not see is an error.
"""

from functools import partial

from benchmarks.record import provenance, save


def main(smoke: bool = False) -> None:
    """Plant all of them and keep what failed; with `smoke` the first whose tests are quick."""
    # Here, as the tables of the docs need none of what runs tests.
    from benchmarks.faults.planting import FAULTS, judge, known_tests
    from benchmarks.mutation import children

    children.prepare()
    made_by = children.call(60.0, provenance)  # it makes a backend; this process may not
    tests = known_tests()
    faults = [f for f in FAULTS if f.what == "roundings forgotten"] if smoke else FAULTS
    judged = children.each(partial(judge, tests=tests), faults, "faults")
    rows = [{"what": f.what, "path": f.path, **of} for f, of in zip(faults, judged)]
    if blind := [(row["what"], row["blind"]) for row in rows if row["blind"]]:
        raise SystemExit("\n".join(f"{what}: {tests} do not see it" for what, tests in blind))
    if smoke:
        print(*rows, sep="\n")
        return
    save("faults", made_by, {"tests": sum(map(len, tests.values())), "faults": rows})
