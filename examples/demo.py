"""The run of `make demo`: a byte-level GPT under Muon and under AdamW, in about two minutes.

Both optimizers are `train_gpt.py`'s. Its default run has more steps; this one is short, so that
the whole demo takes less than three minutes with the installation.
"""

import os
import sys
import time
from pathlib import Path

BEGIN = time.monotonic()
print("Loading JAX and Flax ...", flush=True)

from train_gpt import Config, report, train_all  # noqa: E402

# Each rate is the best of five for this number of steps; see SWEEP in train_gpt.py.
CONFIG = Config(steps=300, eval_every=20, out=Path("build/demo"))

PLAN = """
The model: a GPT over bytes with {layers} layers of width {width}, trained on the sources of
Python's standard library. Every tenth file is held out to measure the loss.
Each optimizer trains the same model on the same batches, {steps} steps. Rates:
  AdamW, two rates   {adamw_two_lr:g} for weight matrices, {rest_lr:g} for the others
  Muon               {muon_lr:g} for weight matrices, AdamW at {rest_lr:g} for the others
The others are embeddings, head and norms. Each first rate is the best of five.
"""

NEXT = """
What to try next:
  {python} examples/quickstart.py
      forty lines to copy: a small Flax model (10 s)
  {python} -m muon_optax bench 768x3072 --out build/bench
      Newton-Schulz beside the exact SVD and Optax's Muon, on a matrix of your size (30 s)
  {python} examples/train_gpt.py --seeds 0 1 2
      the same comparison with three seeds and 400 steps (6 min)
"""


def python() -> str:
    """How to call this Python from the current folder."""
    path = os.path.relpath(sys.executable)
    return sys.executable if path.startswith(os.pardir) else path


def main(config: Config) -> None:
    """Say what is trained, train it, report, and say what to try next."""
    print(PLAN.format_map(vars(config)), flush=True)
    curves = train_all(config)
    report(config, curves)
    if len(config.seeds) == 1:
        print("One seed: the size of the gap varies from seed to seed.")
    print(f"Training and its compilation took {time.monotonic() - BEGIN:.0f} s.")
    print(NEXT.format(python=python()), end="")


if __name__ == "__main__":
    main(CONFIG)
