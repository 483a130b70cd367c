"""What a preset's polynomial costs in training: the byte GPT with Muon, each preset tuned.

Every preset gets the same five learning rates on one seed, then three seeds at its best. One
may become the default only if it loses nothing here.
"""

from dataclasses import replace

from train_gpt import Config, train_all

from benchmarks.gpt import SMALL, best_rate
from benchmarks.record import provenance, save

PRESETS = ("jordan", "fast", "near_exact")


def main(smoke: bool = False) -> None:
    """Sweep and train each preset; keep the curves as they come."""
    made_by = provenance()
    config = Config(optimizers=("muon",))
    if smoke:
        config = replace(config, **SMALL)
    found = {}
    for preset in PRESETS[:1] if smoke else PRESETS:
        trained = replace(config, method=preset)
        sweep = train_all(replace(trained, sweep=not smoke))
        tuned = replace(trained, muon_lr=best_rate(sweep, "muon"), seeds=(0, 1, 2))
        curves = {"sweep": sweep, "seeds": sweep if smoke else train_all(tuned)}
        found[preset] = {k: [curve.as_json() for curve in cs] for k, cs in curves.items()}
        if not smoke:
            save("presets", made_by, {"steps": config.steps, "presets": found})
