"""The layouts of public libraries and models: which path has which role.

A layout is a tuple of rules, of which the first that matches a leaf decides. Put a rule of your
own in front:

>>> from muon_optax import FLAX, LAYOUTS, Rule
>>> dims = (Rule("output head", r"^Dense_3/kernel$", None), *FLAX)
>>> list(LAYOUTS)
['flax', 'equinox', 'haliax', 'maxtext', 'hf_gpt2', 'flax_resnet']
"""

from muon_optax.dims._rules import Layout
from muon_optax.dims.layouts._equinox import EQUINOX as EQUINOX
from muon_optax.dims.layouts._flax import FLAX as FLAX
from muon_optax.dims.layouts._flax import FLAX_RESNET
from muon_optax.dims.layouts._haliax import HALIAX as HALIAX
from muon_optax.dims.layouts._hugging_face import HF_GPT2
from muon_optax.dims.layouts._maxtext import MAXTEXT as MAXTEXT
from muon_optax.dims.layouts._optax import RANK_TWO as RANK_TWO

LAYOUTS: dict[str, Layout] = {
    "flax": FLAX,
    "equinox": EQUINOX,
    "haliax": HALIAX,
    "maxtext": MAXTEXT,
    "hf_gpt2": HF_GPT2,
    "flax_resnet": FLAX_RESNET,
}
