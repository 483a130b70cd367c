"""Measures speed and accuracy, and prints or publishes the results.

polar: Newton-Schulz against SVD and others, by accuracy, time and memory. compare: the same as
users see it, of GPT-2 small and of momenta of a run. step: a whole
optimizer step. train_step: forward, backward and update. gpt: Muon compared with AdamW.
switch: from AdamW to Muon during training. health: what diagnostics show of healthy and of
unhealthy training. finetuning: Muon on what AdamW has trained, in full and by LoRA. widths:
whether the best rate of Muon moves with the width of the model. track: many optimizers, tuned
alike, on fixed tasks with sixteen seeds; --task and --entry choose.
convergence: the paper's experiments. sharding: what moves between eight devices. scaling: that
for large models on many, a simulation, or with --target v5p h100 by the compilers of TPUs and
GPUs. programs: updates compiled for a TPU or GPU that is not there, what the programs are and
what XLA or a roofline estimates. Results go to benchmarks/results/<machine>/. show: print this
machine's results as tables. report: check all results and rewrite the tables and pictures of
README and docs.
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
            "help": "print the rows whose label matches, such as 'svd on 1×512×512 float32', "
            "next to Newton-Schulz; keep no results",
        },
    ),
    "target": (
        ("programs", "compare", "scaling"),
        "targets",
        MANY | {"help": "v5e, v5p, v6e, h100, h200 or cpu; with scaling v5p or h100"},
    ),
    "model": (("programs",), "models", MANY | {"help": "768x2 or another; kept nowhere"}),
    "dearest": (
        ("programs",),
        "dearest",
        {"type": int, "default": 0, "help": "print as many kernels of each"},
    ),
    "task": (("track",), "tasks", MANY | {"help": "gpt or another; all by default"}),
    "entry": (("track",), "entries", MANY | {"help": "files of track/entries; all by default"}),
    "experiment": (
        ("convergence",),
        "experiments",
        MANY | {"help": "bounds, features or another; all by default"},
    ),
    "again": (
        ("track",),
        "again",
        {"action": "store_true", "help": "other seeds at the settings found"},
    ),
    "grid": (
        ("track",),
        "grid",
        {"action": "store_true", "help": "Muon on the GPT over a grid of rates, and no entry"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no results kept")
    for flag, (takes, _, described) in OPTIONS.items():
        help_text = f"with {' or '.join(takes)}: {described['help']}"
        parser.add_argument(f"--{flag}", **{**described, "help": help_text})
    arguments, options = parser.parse_args(), {}
    for flag, (takes, name, _) in OPTIONS.items():
        if value := getattr(arguments, flag):
            if arguments.name not in takes:
                parser.error(f"--{flag} goes with {' or '.join(takes)}")
            options[name] = value
    # Else workers go on without the process that is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke, **options)
    if arguments.name in SHOWN and not (arguments.smoke or options):
        import_module("benchmarks.report").show(arguments.name)


if __name__ == "__main__":
    main()
