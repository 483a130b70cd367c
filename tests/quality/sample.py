"""A random sample of the mutants in a cosmic-ray session: `sample.py SESSION COUNT`."""

import random
import sys


def keep_sample(session: str, count: int) -> None:
    """Remove all other mutants, so that `cr-rate` counts only those that are tested."""
    from cosmic_ray.work_db import use_db  # of the extra `mutation`: pytest imports this file

    with use_db(session) as work_db:
        pending = sorted(work_db.pending_work_items, key=lambda item: str(item.mutations))
        chosen = random.Random(0).sample(pending, min(count, len(pending)))
        work_db.clear()
        work_db.add_work_items(chosen)
        print(f"{len(chosen)} of {len(pending)} mutants")


if __name__ == "__main__":
    keep_sample(sys.argv[1], int(sys.argv[2]))
