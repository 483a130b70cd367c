"""Checkpoints of a training run, which can continue on any mesh."""

from dataclasses import asdict
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from curves import LABELS, Curve

from muon_optax import compat

# The settings that must not change when a run continues.
TRAINING = (
    *("steps", "eval_every", "batch", "context"),
    *("width", "layers", "heads", "method", "rest_lr"),
)


def keep(root: Path | None, runs: list) -> list["Checkpoints"]:
    """Keep checkpoints of each run in `root`, if given, and restore those that are there."""
    kept = [Checkpoints(root, run) for run in runs] if root else []
    for checkpoints in kept:
        checkpoints.restore()
    return kept


class Checkpoints:
    """The last two states of a run, in a separate folder; all processes must use it."""

    def __init__(self, root: Path, run):
        self.run = run
        curve = run.curve
        name = f"{curve.optimizer}-{curve.learning_rate:g}-{curve.seed}"
        self.folder = root.absolute() / name
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self) -> None:
        """Save the arrays, the curve so far, and the state of the random windows."""
        run = self.run
        record = {
            "config": {name: getattr(run.config, name) for name in TRAINING},
            "curve": asdict(run.curve),
            "windows": run.rng.bit_generator.state,
        }
        arrays = ocp.args.StandardSave(compat.to_checkpoint((run.params, run.state)))
        both = ocp.args.Composite(arrays=arrays, record=ocp.args.JsonSave(record))
        self.manager.save(run.curve.step[-1], args=both)

    def restore(self) -> None:
        """Continue from the latest checkpoint, if there is one, on the mesh of this run."""
        step = self.manager.latest_step()
        if step is None:
            return
        run = self.run
        record = self._restored(step, record=ocp.args.JsonRestore()).record
        self._check(record["config"])
        like = run.params, run.state
        arrays = ocp.args.StandardRestore(compat.to_checkpoint(like))
        saved = self._restored(step, arrays=arrays).arrays
        run.params, run.state = compat.from_checkpoint(saved, like)
        run.curve = Curve(**record["curve"])
        run.rng.bit_generator.state = record["windows"]
        if jax.process_index() == 0:
            print(f"{LABELS[run.curve.optimizer]} continues from step {step} of {self.folder}")

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        self.manager.close()

    def _restored(self, step: int, **what):
        return self.manager.restore(step, args=ocp.args.Composite(**what))

    def _check(self, config: dict) -> None:
        mine = self.run.config
        differ = {name: was for name, was in config.items() if getattr(mine, name) != was}
        if differ:
            now = {name: getattr(mine, name) for name in differ}
            raise ValueError(
                f"{self.folder} was trained with {differ}, but this run has {now}; use the "
                "same settings, or another folder for --checkpoint"
            )
