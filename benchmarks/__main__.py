"""Measure, and show what was measured.

polar: Newton-Schulz against SVD and others, by accuracy, time and memory. step: a whole
optimizer step. train_step: forward, backward and update. gpt: Muon beside AdamW. presets: that
training under other polynomials. switch: the GPT changing from AdamW to Muon on the way.
convergence: the paper's experiments. sharding: what moves between eight devices. scaling: that
for large models on many, a simulation. catalogue: hard and bad inputs, and what two Muons make
of them. soak: a long run with faulty gradients, killed again and again. faults: which tests of
numerics see faults planted by hand. mutation: which small faults all tests see. Results go to
benchmarks/results/<machine>/. show: print this machine's as tables. report: rewrite the tables
and pictures of README and docs.
"""

import argparse
from importlib import import_module

MEASUREMENTS = ("polar", "step", "train_step", "gpt", "presets", "switch", "convergence")
MEASUREMENTS += ("sharding", "scaling", "catalogue", "soak", "faults", "mutation")
SHOWN = ("polar", "step", "train_step", *MEASUREMENTS[-6:])  # as tables, when they end
NAMES = (*MEASUREMENTS, "show", "report")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no results kept")
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="with polar: print the rows whose label matches, such as "
        "'svd on 1×512×512 float32', beside Newton-Schulz; with mutation: the mutants whose "
        "path:line matches; keep no results",
    )
    parser.add_argument("--count", type=int, metavar="N", help="with mutation: a sample of N")
    arguments = parser.parse_args()
    options = {}
    for option, names in (("only", ("polar", "mutation")), ("count", ("mutation",))):
        if getattr(arguments, option):
            if arguments.name not in names:
                parser.error(f"--{option} goes with {' and '.join(names)}")
            options[option] = getattr(arguments, option)
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke, **options)
    if arguments.name in SHOWN and not (arguments.smoke or arguments.only):
        import_module("benchmarks.report").show(arguments.name)


if __name__ == "__main__":
    main()
