"""Polar methods applied to the matrices of many leaves, on one device or on a mesh.

    choose_map(methods, tree, shardings).map(leaves, views, momenta, measurement)

Small matrices of equal shape share products. On a mesh every matrix has an owner, the device
that computes its polar factor. Blocks of the matrix travel to the owner, and blocks of the
polar factor travel back.
"""

from collections.abc import Sequence
from typing import Any

from muon_optax.batching._by_method import MapByMethod
from muon_optax.batching._given import Shardings as Shardings
from muon_optax.batching._given import is_traced as is_traced
from muon_optax.batching._map import MatrixMap as MatrixMap
from muon_optax.batching._measurement import Measurement as Measurement
from muon_optax.batching._mesh import MeshMap as MeshMap
from muon_optax.batching._resharding import constrain as constrain
from muon_optax.batching._resharding import everywhere as everywhere
from muon_optax.batching._resharding import gather_explicit as gather_explicit
from muon_optax.batching._resharding import put as put
from muon_optax.batching._resharding import scatter_like as scatter_like
from muon_optax.batching._resharding import sharding_of_moment as sharding_of_moment
from muon_optax.batching._shardings import check_shardings as check_shardings
from muon_optax.batching._shardings import infer_shardings as infer_shardings
from muon_optax.batching._shardings import warn_if_unreadable
from muon_optax.batching._single import SingleDeviceMap as SingleDeviceMap
from muon_optax.batching._static import StaticMethod
from muon_optax.polar._joining import group_indices
from muon_optax.polar._method import PolarMethod


def choose_map(methods: Sequence[PolarMethod], tree: Any, shardings: Shardings) -> MatrixMap:
    """Return the map for the leaves of a tree with these methods, on their mesh if it is known.

    `shardings` is used if the leaves' shardings cannot be read; see `infer_shardings`.
    """
    found = infer_shardings(shardings, tree)
    if found is None:
        warn_if_unreadable(tree)
    maps = []
    for positions in group_indices([StaticMethod(method) for method in methods]):
        method = methods[positions[0]]
        if found is None:
            maps.append((SingleDeviceMap(method), positions))
        else:
            maps.append((MeshMap(method, tuple(found[i] for i in positions)), positions))
    return maps[0][0] if len(maps) == 1 else MapByMethod(maps)
