"""One map from a polar method to the matrices of many leaves, on one device or on a mesh.

    choose_map(method, tree, shardings).map(leaves, views, momenta, measurement)

Small equal matrices share the products of the method. On a mesh, every device computes the
polar factors of the matrices that it owns: blocks travel to the owners and polar factors travel
back, and the method itself moves nothing.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from jax import Array

from muon_optax.batching._given import Shardings as Shardings
from muon_optax.batching._given import is_traced as is_traced
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
from muon_optax.dims import MatrixView
from muon_optax.polar._method import PolarMethod


class MatrixMap(Protocol):
    """A polar method over the matrices of many leaves."""

    def map(
        self,
        leaves: Sequence[Array],
        views: Sequence[MatrixView],
        momenta: Sequence[Array | None],
        measurement: Measurement | None = None,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """The polar factors, in the leaves' shapes and dtypes; the momenta; and the numbers.

        `momenta` are arrays that the program writes in the pass over memory in which it reads
        the leaves: one or None for each leaf. The numbers are what a measurement finds of each
        leaf, `[batch, k]` on every device; None without a measurement or for an empty leaf.
        """
        ...


def choose_map(method: PolarMethod, tree: Any, shardings: Shardings) -> MatrixMap:
    """The map for the leaves of a tree: on their mesh, if their shardings are known.

    `shardings` supplies what cannot be read from the arrays; see `infer_shardings`.
    """
    found = infer_shardings(shardings, tree)
    if found is not None:
        return MeshMap(method, found)
    warn_if_unreadable(tree)
    return SingleDeviceMap(method)
