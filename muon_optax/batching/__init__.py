"""One map from a polar method to the matrices of many leaves, on one device or on a mesh.

    choose_map(method, tree, shardings, max_bytes).map(leaves, views)

Equal matrices go through the method together. On a mesh, every device computes the polar
factors of the matrices that it owns: blocks travel to the owners and polar factors travel back,
and the method itself moves nothing.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from jax import Array

from muon_optax.batching._mesh import MeshMap as MeshMap
from muon_optax.batching._resharding import gather_explicit as gather_explicit
from muon_optax.batching._resharding import place_on_mesh as place_on_mesh
from muon_optax.batching._resharding import replicate as replicate
from muon_optax.batching._resharding import replicate_unsharded as replicate_unsharded
from muon_optax.batching._resharding import scatter_like as scatter_like
from muon_optax.batching._shardings import Shardings as Shardings
from muon_optax.batching._shardings import check_shardings as check_shardings
from muon_optax.batching._shardings import infer_shardings as infer_shardings
from muon_optax.batching._shardings import warn_if_unreadable
from muon_optax.batching._single import SingleDeviceMap as SingleDeviceMap
from muon_optax.dims import MatrixView
from muon_optax.polar._method import PolarMethod


class MatrixMap(Protocol):
    """A polar method over the matrices of many leaves."""

    def map(self, leaves: Sequence[Array], views: Sequence[MatrixView]) -> list[Array]:
        """The polar factors of all matrices, in the leaves' shapes and dtypes."""
        ...


def choose_map(
    method: PolarMethod, tree: Any, shardings: Shardings, max_bytes: int | None
) -> MatrixMap:
    """The map for the leaves of a tree: on their mesh, if their shardings are known.

    `shardings` supplies what cannot be read from the arrays; see `infer_shardings`. `max_bytes`
    is the upper limit on the bytes that a device passes to the method in one call.
    """
    found = infer_shardings(shardings, tree)
    if found is not None:
        return MeshMap(method, max_bytes, found)
    warn_if_unreadable(tree)
    return SingleDeviceMap(method, max_bytes)
