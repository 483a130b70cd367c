"""The layouts of public libraries and models: rules that give each path a role.

A layout is a tuple of rules. The first rule that matches a leaf decides, so put your own rules
first:

>>> from muon_optax import FLAX, LAYOUTS, Rule
>>> dims = (Rule("output head", r"^Dense_3/kernel$", None), *FLAX)
>>> list(LAYOUTS)
['flax', 'equinox', 'haliax', 'haiku', 'keras', 'pytorch', 'maxtext', 'hugging_face', 'easydel']
"""

from muon_optax._checks import Choices
from muon_optax.dims._rules import Layout, Rule
from muon_optax.dims.layouts._easydel import EASYDEL
from muon_optax.dims.layouts._equinox import EQUINOX as EQUINOX
from muon_optax.dims.layouts._flax import FLAX as FLAX
from muon_optax.dims.layouts._haiku import HAIKU
from muon_optax.dims.layouts._haliax import HALIAX as HALIAX
from muon_optax.dims.layouts._hugging_face import HUGGING_FACE
from muon_optax.dims.layouts._keras import KERAS
from muon_optax.dims.layouts._maxtext import MAXTEXT as MAXTEXT
from muon_optax.dims.layouts._optax import RANK_TWO as RANK_TWO
from muon_optax.dims.layouts._pytorch import PYTORCH

LAYOUTS: dict[str, Layout] = Choices(
    flax=FLAX,
    equinox=EQUINOX,
    haliax=HALIAX,
    haiku=HAIKU,
    keras=KERAS,
    pytorch=PYTORCH,
    maxtext=MAXTEXT,
    hugging_face=HUGGING_FACE,
    easydel=EASYDEL,
)

_RULES = frozenset(rule for rules in LAYOUTS.values() for rule in rules)


def is_from_layout(rule: Rule) -> bool:
    """Whether a rule is from one of `LAYOUTS` and not the user's own."""
    return rule in _RULES
