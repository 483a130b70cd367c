"""What a preset's polynomial costs in training: the byte GPT under Muon, each preset tuned.

Every preset gets the same five learning rates on one seed and one more between its best and
the better neighbour, then three seeds at the best of the six. A preset may become the default
only if it loses nothing here.
"""

import math
from dataclasses import replace

from curves import Curve
from train_gpt import Config, train_all

from benchmarks.gpt import SMALL, best_rate
from benchmarks.record import provenance, save

PRESETS = ("jordan", "fast", "near_exact")


def between(sweep: list[Curve]) -> float:
    """The geometric mean of the best learning rate and the better of its neighbours."""
    losses = {curve.learning_rate: curve.loss[-1] for curve in sweep}
    rates = sorted(losses)
    at = rates.index(min(losses, key=losses.get))
    neighbours = rates[max(at - 1, 0) : at] + rates[at + 1 : at + 2]
    return float(f"{math.sqrt(rates[at] * min(neighbours, key=losses.get)):.3g}")


def main(smoke: bool = False) -> None:
    """Sweep and train each preset; keep the curves as they come."""
    made_by = provenance()
    config = Config(optimizers=("muon",))
    seeds = (0, 1, 2)
    if smoke:
        config, seeds = replace(config, **SMALL), (0,)
    found = {}
    for preset in PRESETS[:1] if smoke else PRESETS:
        trained = replace(config, method=preset)
        sweep = train_all(replace(trained, sweep=not smoke))
        if not smoke:
            sweep += train_all(replace(trained, muon_lr=between(sweep)))
        tuned = replace(trained, muon_lr=best_rate(sweep, "muon"), seeds=seeds)
        curves = {"sweep": sweep, "seeds": train_all(tuned)}
        found[preset] = {k: [curve.as_json() for curve in cs] for k, cs in curves.items()}
        if not smoke:
            save("presets", made_by, {"steps": config.steps, "presets": found})
