"""Measure speed and accuracy. Results go to benchmarks/results/<machine>/.

names:
  polar        Newton-Schulz, SVD and other methods: time, accuracy, memory
  compare      the comparison that users can run: GPT-2 small, momenta of a run
  step         one optimizer step
  train_step   the optimizer's share of a training step
  gpt          train a GPT with Muon and with AdamW
  switch       change from AdamW to Muon during training
  health       diagnostics of healthy and unhealthy training
  widths       whether the best learning rate changes with the width
  finetuning   fine-tune, with Muon, a model that AdamW has trained
  convergence  the paper's experiments
  sharding     bytes that a step sends between eight devices
  scaling      the same for large models, simulated or compiled with --target
  programs     updates compiled for a TPU or a GPU, with estimated times
  track        many optimizers on small tasks, tuned by the same search
  show         print the results of this machine
  report       check all results, rewrite the tables and pictures in README and docs
"""

import argparse
import signal
from importlib import import_module
from typing import Any

MEASUREMENTS = ("polar", "compare", "step", "train_step", "gpt", "switch", "health", "widths")
MEASUREMENTS += ("finetuning", "convergence", "sharding", "scaling", "programs", "track")
SHOWN = ("polar", "step", "train_step", "health", "sharding", "scaling")  # printed at the end
NAMES = (*MEASUREMENTS, "show", "report")

# Flag → the measurements that take it, the name of their argument, and its description.
MANY = {"nargs": "+", "default": ()}
OPTIONS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "only": (
        ("polar",),
        "only",
        {
            "metavar": "REGEX",
            "help": "measure the rows whose label matches, such as 'svd on 1×512×512 float32', "
            "and Newton-Schulz; save nothing",
        },
    ),
    "target": (
        ("programs", "compare", "scaling"),
        "targets",
        MANY | {"help": "v5e, v5p, v6e, h100, h200 or cpu; scaling takes v5p or h100"},
    ),
    "model": (("programs",), "models", MANY | {"help": "768x2 or another; save nothing"}),
    "top": (
        ("programs",),
        "top",
        {"type": int, "default": 0, "help": "print so many of the slowest kernels"},
    ),
    "task": (("track",), "tasks", MANY | {"help": "gpt or another; default: all"}),
    "entry": (("track",), "entries", MANY | {"help": "files in track/entries; default: all"}),
    "experiment": (
        ("convergence",),
        "experiments",
        MANY | {"help": "bounds, features or another; default: all"},
    ),
    "again": (
        ("track",),
        "again",
        {"action": "store_true", "help": "repeat with other seeds, without a search"},
    ),
    "grid": (
        ("track",),
        "grid",
        {"action": "store_true", "help": "only Muon on the GPT, over a grid of learning rates"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NAMES, metavar="name", help="see above")
    parser.add_argument("--smoke", action="store_true", help="take a few seconds, save nothing")
    for flag, (takes, _, described) in OPTIONS.items():
        help_text = f"{', '.join(takes)}: {described['help']}"
        parser.add_argument(f"--{flag}", **{**described, "help": help_text})
    arguments, options = parser.parse_args(), {}
    for flag, (takes, name, _) in OPTIONS.items():
        if value := getattr(arguments, flag):
            if arguments.name not in takes:
                parser.error(f"--{flag} needs the name {' or '.join(takes)}")
            options[name] = value
    # Otherwise workers would outlive this process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke, **options)
    if arguments.name in SHOWN and not (arguments.smoke or options):
        import_module("benchmarks.report").show(arguments.name)


if __name__ == "__main__":
    main()
