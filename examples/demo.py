"""`make demo`: train a byte-level GPT by Muon and by AdamW, in about two minutes.

It runs `train_gpt.py` with fewer steps.
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
The model is a GPT over bytes with {layers} layers of width {width}, trained on the sources of
Python's standard library. One file in ten is held out to measure the loss.
Each optimizer trains the same model on the same batches for {steps} steps. Learning rates:
  AdamW, two rates   {adamw_two_lr:g} for weight matrices, {rest_lr:g} for the rest
  Muon               {muon_lr:g} for weight matrices, AdamW at {rest_lr:g} for the rest
The rest are embeddings, head and norms. Each rate for matrices is the best of five.
"""

NEXT = """
What to try next:
  {python} examples/quickstart.py
      train a small Flax model, forty lines to copy (10 s)
  {python} -m muon_optax bench 768x3072 --out build/bench
      compare Newton-Schulz, the exact SVD and Optax's Muon on a matrix of your size (30 s)
  {python} examples/train_gpt.py --seeds 0 1 2
      repeat this comparison with three seeds and 400 steps (6 min)
"""


def python() -> str:
    """The path of this Python, relative to the current folder if it is inside."""
    path = os.path.relpath(sys.executable)
    return sys.executable if path.startswith(os.pardir) else path


def main(config: Config) -> None:
    """Say what is trained, train it, report, and say what to try next."""
    print(PLAN.format_map(vars(config)), flush=True)
    curves = train_all(config)
    report(config, curves)
    if len(config.seeds) == 1:
        print("This was one seed. The size of the gap varies from seed to seed.")
    print(f"Training and compilation took {time.monotonic() - BEGIN:.0f} s.")
    print(NEXT.format(python=python()), end="")


if __name__ == "__main__":
    main(CONFIG)
