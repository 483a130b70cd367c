"""Muon for JAX and Optax: each momentum matrix is replaced by its polar factor.

>>> import jax, jax.numpy as jnp, optax
>>> from muon_optax import muon
>>> params = {"kernel": jnp.eye(3) * 2.0, "bias": jnp.zeros(3)}
>>> tx = muon(learning_rate=0.1)
>>> state = tx.init(params)
>>> grads = jax.grad(lambda p: (p["kernel"] ** 2).sum())(params)
>>> updates, state = tx.update(grads, state, params)
>>> params = optax.apply_updates(params, updates)
"""

from importlib.metadata import version as _version

from muon_optax import coefficients as coefficients
from muon_optax import compat as compat
from muon_optax import diagnostics as diagnostics
from muon_optax import dims as dims
from muon_optax import theory as theory
from muon_optax._muon import muon as muon
from muon_optax.coefficients import FAMILIES as FAMILIES
from muon_optax.coefficients import Coefficients as Coefficients
from muon_optax.comparison._compare import compare as compare
from muon_optax.comparison._comparison import Comparison as Comparison
from muon_optax.dims import EQUINOX as EQUINOX
from muon_optax.dims import FLAX as FLAX
from muon_optax.dims import LAYOUTS as LAYOUTS
from muon_optax.dims import MuonDimensionNumbers as MuonDimensionNumbers
from muon_optax.dims import Rule as Rule
from muon_optax.planning._plan import plan as plan
from muon_optax.planning._table import Plan as Plan
from muon_optax.polar._dual_norm import DualNorm as DualNorm
from muon_optax.polar._method import BatchedMethod as BatchedMethod
from muon_optax.polar._method import MethodPlan as MethodPlan
from muon_optax.polar._method import PolarMethod as PolarMethod
from muon_optax.polar._newton_schulz import NewtonSchulz as NewtonSchulz
from muon_optax.polar._presets import METHODS as METHODS
from muon_optax.polar._presets import orthogonalize as orthogonalize
from muon_optax.polar._svd import SVD as SVD
from muon_optax.transforms._momentum import MuonState as MuonState
from muon_optax.transforms._normalize import normalize_sides as normalize_sides
from muon_optax.transforms._normuon import scale_by_neuron_rms as scale_by_neuron_rms
from muon_optax.transforms._orthogonalize import scale_by_muon as scale_by_muon
from muon_optax.transforms._partition import partition_matrices as partition_matrices
from muon_optax.transforms._place_state import place_state as place_state
from muon_optax.transforms._qk_clip import qk_clip as qk_clip
from muon_optax.transforms._shape import scale_by_shape as scale_by_shape
from muon_optax.transforms._weight_decay import (
    add_cautious_weight_decay as add_cautious_weight_decay,
)
from muon_optax.transforms._weight_decay import (
    add_independent_weight_decay as add_independent_weight_decay,
)

__version__ = _version("muon-optax")
