"""`python -m benchmarks NAME [--smoke]`: one measurement, or `report` to write the README."""

import argparse
from importlib import import_module

NAMES = ("gpt", "footprint", "convergence", "report")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no results kept")
    arguments = parser.parse_args()
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke)


if __name__ == "__main__":
    main()
