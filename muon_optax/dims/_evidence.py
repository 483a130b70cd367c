"""What a leaf is by the other leaves of its tree, where its name does not say it.

>>> import jax.numpy as jnp
>>> from muon_optax import FLAX, dims
>>> params = {f"Dense_{i}": {"kernel": jnp.ones((8, 8 - 5 * (i == 2)))} for i in range(3)}
>>> [found.evidence for found in dims.assign(FLAX, params)]
[None, None, 'no other layer takes its 3 outputs']
"""

import re
from collections.abc import Sequence

from muon_optax.dims._assignment import Assignment
from muon_optax.dims._consistency import QUERY, Neighbours, first_kernel
from muon_optax.dims._names import is_in_head, is_named_like_last, is_named_output
from muon_optax.dims._rules import Rule
from muon_optax.dims._view import MatrixView
from muon_optax.dims._widths import Widths, channels, ends
from muon_optax.dims.layouts import is_from_layout

_PLAIN = ("matrix", "stack of matrices", "convolution")
_FEW = 16  # so many times fewer channels than before are the colours of an image
Result = tuple[str, str] | None  # a role, and what shows it


class Evidence:
    """The leaves of a tree after the rules have been tried."""

    def __init__(self, assignments: Sequence[Assignment], neighbours: Neighbours):
        shapes = neighbours.shapes
        self.neighbours = neighbours
        self.widths = Widths(assignments, shapes)
        self.num_single_channel = sum(
            found.view is not None
            and found.rule is not None
            and found.rule.role == "convolution"
            and channels(found.view) == 1
            for found in assignments
        )
        self.modules_of_experts = {
            match[1]
            for path in shapes
            if (match := re.match(r"(.*?)/?\w*experts?(/|_|$)", path))
        }

    def judge(self, found: Assignment) -> Assignment:
        """The assignment, corrected where the other leaves know better."""
        if found.view is None or found.rule is None or found.rule.role not in _PLAIN:
            return found
        if found.evidence is None and not is_from_layout(found.rule):
            return found
        looks = (self._as_router, self._as_depthwise, self._as_vectors, self._as_output)
        for look in looks:
            if result := look(found.path, found.rule, found.view):
                role, evidence = result
                return found._replace(view=None, rule=Rule(role, "", None), evidence=evidence)
        return found

    def _as_router(self, path: str, rule: Rule, view: MatrixView) -> Result:
        match = re.match(r"(.*?)/?(gate|wg|gating)/\w+$", path)
        if match and match[1] in self.modules_of_experts:
            return "router", "a gate next to experts"
        return None

    def _as_depthwise(self, path: str, rule: Rule, view: MatrixView) -> Result:
        # One convolution with one input channel may read grey images; two do not.
        one = "convolution" in rule.role and channels(view) == 1
        if one and self.num_single_channel > 1:
            return "depthwise convolution", "one input channel, like others"
        return None

    def _as_vectors(self, path: str, rule: Rule, view: MatrixView) -> Result:
        shape, around = view.shape, self.neighbours.around(path, min_ndim=3)
        stacked = len(around) > 1 and all(
            other[0] == shape[0] and shape[0] not in other[1:] for other in around
        )
        if len(shape) == 2 and stacked and shape[0] not in shape[1:]:
            return "stack of vectors", f"all leaves around begin with {shape[0]}"
        return None

    def _as_output(self, path: str, rule: Rule, view: MatrixView) -> Result:
        fan_in, fan_out = ends(view)
        in_attention = first_kernel(re.sub(r"[^/]+/[^/]+$", "", path), QUERY, self.neighbours)
        if len(view.sides) > 1 or in_attention:
            return None
        if is_named_output(path) and _FEW * fan_out <= fan_in and "conv" in rule.role:
            return "output layer", f"an output of {fan_out} channels"
        # What a convolution gives may be flattened; what the last layer gives may not.
        last = is_in_head(path) or is_named_like_last(path) or is_named_output(path)
        if self.widths.is_taken(fan_out, path, joined="conv" in rule.role or not last):
            return None
        evidence = f"no other layer takes its {fan_out} outputs"
        if is_in_head(path):
            return "output layer", evidence
        if not self.widths.is_given(fan_in, path):
            return None
        if fan_out in self.widths.tables:
            return (
                "output layer",
                f"as many outputs as {self.widths.tables[fan_out]!r} has rows",
            )
        if fan_out == 1 or is_named_output(path):
            return "output layer", evidence
        if is_named_like_last(path) and not self.widths.may_be_an_image(fan_out):
            return "output layer", evidence
        return None
