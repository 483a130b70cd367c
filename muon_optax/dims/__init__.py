"""Knows which leaf of a tree is a matrix, along which axes, and its `[batch, in, out]`.

A spec is a string with a word for each axis, such as `"layers in (heads=12 out)"`; or
optax's own `MuonDimensionNumbers(reduction_axis, output_axis)`, where axes in neither are
batch axes; or None for a leaf that is no matrix. Wherever `dims` is an argument, it is

- None: every leaf is a matrix `[fan_in, fan_out]`;
- a tuple of `Rule`s, such as `FLAX`: the first that matches path and rank decides;
- one spec for all, or a tree of specs, or a prefix of one: found by path, so that a plain
  dict serves for a FrozenDict or an `nnx.State` as well;
- a function from the parameters to any of these.
"""

from optax.contrib import MuonDimensionNumbers as MuonDimensionNumbers

from muon_optax.dims._layouts import EQUINOX as EQUINOX
from muon_optax.dims._layouts import FLAX as FLAX
from muon_optax.dims._layouts import HALIAX as HALIAX
from muon_optax.dims._layouts import LAYOUTS as LAYOUTS
from muon_optax.dims._layouts import MAXTEXT as MAXTEXT
from muon_optax.dims._layouts import RANK_TWO as RANK_TWO
from muon_optax.dims._resolve import Assignment as Assignment
from muon_optax.dims._resolve import Dims as Dims
from muon_optax.dims._resolve import assign as assign
from muon_optax.dims._resolve import check_trains as check_trains
from muon_optax.dims._resolve import matrix_views as matrix_views
from muon_optax.dims._resolve import resolve as resolve
from muon_optax.dims._rules import Rule as Rule
from muon_optax.dims._spec import SpecError as SpecError
from muon_optax.dims._view import MatrixView as MatrixView
from muon_optax.dims._view import Spec as Spec
from muon_optax.dims._view import view_of as view_of
from muon_optax.dims._resolve import ResolvedDims as ResolvedDims
from muon_optax.dims._resolve import resolve_once as resolve_once
