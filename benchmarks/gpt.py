"""The byte GPT of `examples/train_gpt.py`: Muon and AdamW, tuned with the same budget.

A sweep of five learning rates each, one seed; then three seeds at the best of each. The
held-out windows that choose a rate are those that are reported, for both alike.
"""

from dataclasses import replace

from train_gpt import Config, Curve, report, train_all

from benchmarks.record import folder, provenance, save

OPTIMIZERS = ("adamw", "adamw_two", "muon")
SMALL = {"steps": 2, "eval_every": 1, "layers": 1, "width": 32, "context": 16, "batch": 2}


def best_rate(curves: list[Curve], optimizer: str) -> float:
    """The learning rate of the lowest final held-out loss."""
    of_it = [curve for curve in curves if curve.optimizer == optimizer]
    return min(of_it, key=lambda curve: curve.loss[-1]).learning_rate


def main(smoke: bool = False) -> None:
    """Sweep, then train three seeds; keep both, and the picture of the three seeds."""
    made_by = provenance()
    config = Config(optimizers=OPTIMIZERS, out=folder() / "gpt")
    if smoke:
        config = replace(config, optimizers=OPTIMIZERS[-1:], **SMALL)
    sweep = train_all(replace(config, sweep=not smoke))
    tuned = replace(
        config,
        **{f"{name}_lr": best_rate(sweep, name) for name in config.optimizers},
        seeds=(0, 1, 2),
    )
    if smoke:
        return
    curves = train_all(tuned)
    report(tuned, curves)
    measured = {
        "steps": config.steps,
        "sweep": [curve.as_json() for curve in sweep],
        "seeds": [curve.as_json() for curve in curves],
    }
    save("gpt", made_by, measured)
