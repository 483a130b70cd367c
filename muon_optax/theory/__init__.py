"""The mathematics of Muon with Newton-Schulz, as functions of float64 numbers, without JAX.

Names and letters are those of Kim & Oh, arXiv 2601.19156. docs/theory.md has the claims.
docs/proofs.md and docs/proofs_training.md have the proofs that are not in the paper.

The argument `schedule` can have any of these forms:

- a tuple of stages, in the order in which they are applied;
- a name in `METHODS`, optionally with a number of steps: `"jordan"`, `"polar_express:8"`;
- a `Coefficients`, or numbers, as for `NewtonSchulz`;
- a method: a `NewtonSchulz` or another object with `.schedule`.

A name or a method also sets the normalization, unless you pass `normalize`.

The functions and classes are:

- The effect of a schedule on a singular value: `scalar_map`, `image`, `sup_error`.
- Its quality: `certificate`, `alignment`, `alignment_bound`, `cosine`, `steps_for`,
  `tabulate`.
- Its cost: `products`, `flops`.
- The paper's residuals: `residual_polynomial`, `residual`, `residual_bound`, `polar_error`,
  `constant_factor`.
- Convergence with Nesterov's momentum, weight decay and heavy-tailed noise: `Problem`, `Run`,
  `Momentum`, `bound`, `best_run`.
- Convergence of runs with constant settings: `muon_bound`, `paper_bound`, `tuned_step`,
  `best_step`, `spectral_bound`.
- Convergence of SGD: `sgdm_bound`, `tuned_sgdm_step`.

>>> [round(end, 3) for end in image("jordan", 0.01)]
[0.682, 1.134]
"""

from muon_optax.theory._alignment import Certificate as Certificate
from muon_optax.theory._alignment import alignment as alignment
from muon_optax.theory._alignment import alignment_bound as alignment_bound
from muon_optax.theory._alignment import certificate as certificate
from muon_optax.theory._alignment import cosine as cosine
from muon_optax.theory._bounds import muon_bound as muon_bound
from muon_optax.theory._bounds import paper_bound as paper_bound
from muon_optax.theory._bounds import sgdm_bound as sgdm_bound
from muon_optax.theory._bounds import spectral_bound as spectral_bound
from muon_optax.theory._momentum import Momentum as Momentum
from muon_optax.theory._problem import Problem as Problem
from muon_optax.theory._problem import best_step as best_step
from muon_optax.theory._problem import tuned_sgdm_step as tuned_sgdm_step
from muon_optax.theory._problem import tuned_step as tuned_step
from muon_optax.theory._residual import constant_factor as constant_factor
from muon_optax.theory._residual import polar_error as polar_error
from muon_optax.theory._residual import residual as residual
from muon_optax.theory._residual import residual_bound as residual_bound
from muon_optax.theory._residual import residual_polynomial as residual_polynomial
from muon_optax.theory._run import Bound as Bound
from muon_optax.theory._run import Run as Run
from muon_optax.theory._run import best_run as best_run
from muon_optax.theory._run import bound as bound
from muon_optax.theory._scalar import image as image
from muon_optax.theory._scalar import scalar_map as scalar_map
from muon_optax.theory._scalar import sup_error as sup_error
from muon_optax.theory._steps import flops as flops
from muon_optax.theory._steps import products as products
from muon_optax.theory._steps import steps_for as steps_for
from muon_optax.theory._table import Row as Row
from muon_optax.theory._table import Table as Table
from muon_optax.theory._table import tabulate as tabulate

__all__ = [
    "Bound",
    "Certificate",
    "Momentum",
    "Problem",
    "Row",
    "Run",
    "Table",
    "alignment",
    "alignment_bound",
    "best_run",
    "best_step",
    "bound",
    "certificate",
    "constant_factor",
    "cosine",
    "flops",
    "image",
    "muon_bound",
    "paper_bound",
    "polar_error",
    "products",
    "residual",
    "residual_bound",
    "residual_polynomial",
    "scalar_map",
    "sgdm_bound",
    "spectral_bound",
    "steps_for",
    "sup_error",
    "tabulate",
    "tuned_sgdm_step",
    "tuned_step",
]
