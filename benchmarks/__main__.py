"""Measures speed and accuracy, and prints or publishes the results.

polar: Newton-Schulz against SVD and others, by accuracy, time and memory. compare: the same as
users see it, of GPT-2 small and of momenta of a run. step: a whole
optimizer step. train_step: forward, backward and update. gpt: Muon compared with AdamW.
presets: the same training with other polynomials. switch: from AdamW to Muon during training.
health: what diagnostics show of healthy and of unhealthy training. track: many optimizers,
tuned alike, on fixed tasks with sixteen seeds; --task and --entry choose.
convergence: the paper's experiments. sharding: what moves between eight devices. scaling: that
for large models on many, a simulation, or with --target v5p h100 by the compilers of TPUs and
GPUs. programs: updates compiled for a TPU or GPU that is not there, what the programs are and
what XLA or a roofline estimates. Results go to benchmarks/results/<machine>/. show: print this
machine's results as tables. report: check all results and rewrite the tables and pictures of
README and docs.
"""

import argparse
from importlib import import_module

MEASUREMENTS = ("polar", "compare", "step", "train_step", "gpt", "presets", "switch", "health")
MEASUREMENTS += ("convergence", "sharding", "scaling", "programs", "track")
SHOWN = ("polar", "step", "train_step", "health", "sharding", "scaling")  # printed at the end
NAMES = (*MEASUREMENTS, "show", "report")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--smoke", action="store_true", help="a few seconds, no results kept")
    parser.add_argument(
        "--only",
        metavar="REGEX",
        help="with polar: print the rows whose label matches, such as "
        "'svd on 1×512×512 float32', next to Newton-Schulz; keep no results",
    )
    targets = (
        "with programs or compare: v5e, v5p, v6e, h100, h200 or cpu; with scaling: v5p, h100"
    )
    of_programs = {
        "targets": parser.add_argument("--target", nargs="+", default=(), help=targets),
        "models": parser.add_argument(
            "--model",
            nargs="+",
            default=(),
            help="with programs: 768x2 or another; kept nowhere",
        ),
        "dearest": parser.add_argument(
            "--dearest",
            type=int,
            default=0,
            help="with programs: print as many kernels of each",
        ),
        "tasks": parser.add_argument(
            "--task", nargs="+", default=(), help="with track: gpt or another; all by default"
        ),
        "entries": parser.add_argument(
            "--entry", nargs="+", default=(), help="with track: files of track/entries"
        ),
    }
    arguments = parser.parse_args()
    if arguments.only and arguments.name != "polar":
        parser.error("--only goes with polar")
    options = {"only": arguments.only} if arguments.only else {}
    for name, option in of_programs.items():
        if value := getattr(arguments, option.dest):
            takes = {"targets": ("programs", "scaling", "compare")}
            takes = takes | dict.fromkeys(("tasks", "entries"), ("track",))
            takes = takes.get(name, ("programs",))
            if arguments.name not in takes:
                parser.error(f"--{option.dest} goes with {' or '.join(takes)}")
            options[name] = value
    import_module(f"benchmarks.{arguments.name}").main(smoke=arguments.smoke, **options)
    if arguments.name in SHOWN and not (arguments.smoke or options):
        import_module("benchmarks.report").show(arguments.name)


if __name__ == "__main__":
    main()
