"""Whether a test fails for each fault that can be planted in the package.

    pip install -e '.[mutation]'
    python -m benchmarks mutation                            # all of them: hours
    python -m benchmarks mutation --count 300                # a random sample
    python -m benchmarks mutation --only 'polar/plan.py:12'  # printed; no results kept

First each file of tests is traced: who executes which line. Then each mutant meets the tests
that execute the line it changes. What is done is remembered in build/benchmarks: a run that was
stopped goes on, until a file of the package or of the tests changes; change none meanwhile.
"""

import json
import os
from tempfile import TemporaryDirectory
from unittest import mock

from benchmarks import store
from benchmarks.record import provenance, save


def main(smoke: bool = False, only: str = "", count: int = 0) -> None:
    """Judge all mutants, `count` of them, or those whose `path:line` has a match of `only`."""
    # Here, as the tables of the docs need neither cosmic-ray nor coverage.
    from benchmarks.mutation import children, run, selection

    if smoke:
        with TemporaryDirectory() as runs, mock.patch.dict(os.environ, {store.FOLDER: runs}):
            children.prepare()
            print(run.measure("scaling.py", 3, ["tests/test_scaling.py"]))
        return
    children.prepare()
    made_by = children.call(60.0, provenance)  # it makes a backend; this process may not
    found = run.measure(only, count, selection.test_files())
    print(json.dumps(found, indent=1) if only else save("mutation", made_by, found))
