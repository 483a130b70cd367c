"""Makes momenta.npz: `python -m benchmarks.polar.capture`, about a minute on two cores.

The momenta of the three wide MLP kernels `[128, 512]` of the byte GPT, after 150 steps.
"""

import numpy as np

from benchmarks.convergence.momenta import capture
from benchmarks.polar.matrices import CAPTURED

STEP = 150

if __name__ == "__main__":
    momenta = capture(steps=(STEP,))
    wide = [x for name, x in momenta.items() if name.endswith("up/kernel")]
    np.savez_compressed(CAPTURED, momenta=np.stack(wide))
    print(f"{CAPTURED}: {len(wide)} momenta of {wide[0].shape}")
