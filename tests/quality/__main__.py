"""Runs that write results for the docs: `python -m tests.quality catalogue|soak`."""

import argparse
import tempfile
from pathlib import Path

import jax

from benchmarks.record import provenance, save


def catalogue() -> dict:
    """Put every input to both libraries."""
    from tests.quality.catalogue import outcomes

    return {"rows": outcomes()}


def soak() -> dict:
    """Do twenty thousand steps undisturbed, and again with two dozen kills."""
    from tests.quality.soak import plan_kills, soak

    steps, every = 20_000, 100
    with tempfile.TemporaryDirectory() as folder:
        return soak(Path(folder), steps, every, plan_kills(steps, every, 24))


RUNS = {"catalogue": catalogue, "soak": soak}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("name", choices=RUNS)
    name = parser.parse_args().name
    jax.config.update("jax_platforms", "cpu")  # where equal programs give equal bits
    jax.config.update("jax_num_cpu_devices", 8)
    made_by = provenance()
    print(save(name, made_by, RUNS[name]()))


if __name__ == "__main__":
    main()
