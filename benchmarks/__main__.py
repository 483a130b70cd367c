"""`python -m benchmarks NAME [--smoke]`: one measurement, or `report` to write the README."""

import argparse
from importlib import import_module

NAMES = ("polar", "step", "train_step", "gpt", "convergence", "report")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no results kept")
    parser.add_argument("--only", help="polar: print the rows that match, keep no results")
    arguments = parser.parse_args()
    if arguments.only and arguments.name != "polar":
        parser.error("--only goes with polar")
    options = {"only": arguments.only} if arguments.only else {}
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke, **options)


if __name__ == "__main__":
    main()
