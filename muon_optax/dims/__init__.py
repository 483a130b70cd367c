"""Which leaves of a tree are matrices, and how to read each as `[batch, fan_in, fan_out]`.

`dims` is an argument of `muon`, `plan` and every transformation. It can be:

A layout, or your own rules followed by one. The first rule that matches a leaf's path and
number of axes decides:

>>> import jax.numpy as jnp
>>> from muon_optax import FLAX, Rule, dims
>>> params = {"up": {"kernel": jnp.ones((32, 64)), "bias": jnp.ones(64)}, "w": jnp.ones((8, 4))}
>>> def sides(dims_given):
...     return [view and view.sides for view in dims.resolve(dims_given, params)]
>>> sides((Rule("mine", r"^w$", "out in"), *FLAX))
[None, ((1, 32, 64),), ((1, 4, 8),)]

A tree of specs. A spec is a string with one word for each axis (`in`, `out`, or any other name
for a batch axis). It can also be Optax's `MuonDimensionNumbers`, or None, which sends the leaf
to the fallback. Specs are looked up by path, so a plain dict works for a `FrozenDict` or an
`nnx.State`:

>>> sides({"up": {"kernel": "in out", "bias": None}, "w": "out in"})
[None, ((1, 32, 64),), ((1, 4, 8),)]

A prefix of such a tree: each spec applies to all leaves below it. A single spec applies to
every leaf:

>>> sides({"up": None, "w": "in (heads=2 out)"})
[None, None, ((2, 8, 2),)]

None, if every leaf is a matrix `[fan_in, fan_out]`:

>>> dims.resolve(None, {"w": jnp.ones((8, 4))})[0].sides
((1, 8, 4),)

A function that takes the parameters and returns any of these forms:

>>> sides(lambda params: FLAX[:1] + (Rule("rest", "", None),))
[None, None, None]

The result of `resolve_once`, which also works for a part of the tree:

>>> sides(dims.resolve_once({"up": None, "w": "in out"}, params))
[None, None, ((1, 8, 4),)]
"""

from optax.contrib import MuonDimensionNumbers as MuonDimensionNumbers

from muon_optax.dims._assignment import Assignment as Assignment
from muon_optax.dims._by_name import check_names_used as check_names_used
from muon_optax.dims._by_name import rule_for_name as rule_for_name
from muon_optax.dims._exclude import exclude_leaves as exclude_leaves
from muon_optax.dims._lint import lint_rules as lint_rules
from muon_optax.dims._resolve import Dims as Dims
from muon_optax.dims._resolve import ResolvedDims as ResolvedDims
from muon_optax.dims._resolve import assign as assign
from muon_optax.dims._resolve import check_any_matrix as check_any_matrix
from muon_optax.dims._resolve import matrix_views as matrix_views
from muon_optax.dims._resolve import resolve as resolve
from muon_optax.dims._resolve import resolve_once as resolve_once
from muon_optax.dims._rules import Layout as Layout
from muon_optax.dims._rules import Rule as Rule
from muon_optax.dims._spec import SpecError as SpecError
from muon_optax.dims._view import MatrixView as MatrixView
from muon_optax.dims._view import Spec as Spec
from muon_optax.dims._view import view_of as view_of
from muon_optax.dims._warn import describe_doubts as describe_doubts
from muon_optax.dims._warn import warn_of_doubts as warn_of_doubts
from muon_optax.dims.layouts import EQUINOX as EQUINOX
from muon_optax.dims.layouts import FLAX as FLAX
from muon_optax.dims.layouts import HALIAX as HALIAX
from muon_optax.dims.layouts import LAYOUTS as LAYOUTS
from muon_optax.dims.layouts import MAXTEXT as MAXTEXT
from muon_optax.dims.layouts import RANK_TWO as RANK_TWO

# muon_optax itself exports FLAX, EQUINOX, LAYOUTS, Rule and MuonDimensionNumbers.
__all__ = [
    "HALIAX",
    "MAXTEXT",
    "RANK_TWO",
    "Layout",
    "MatrixView",
    "ResolvedDims",
    "SpecError",
    "matrix_views",
    "resolve",
    "resolve_once",
]
