r"""Formulas as GitHub writes them, `` $`x^2`$ `` and blocks of `math`, made MathML.

Browsers draw MathML by themselves, so the site loads no script and no font for it.
"""

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

BEFORE_CODE = 195  # Markdown's own code spans have 190.


class MathError(ValueError):
    """A formula that is not understood."""


def to_mathml(latex: str, display: str = "inline") -> str:
    r"""A formula as a `<math>` element.

    Raises:
      MathError: If a command of LaTeX would be left in the text of the page.
    """
    found = convert(_prepare(latex), display=display)
    left = [text for text in ElementTree.fromstring(found).itertext() if "\\" in text]
    if left:
        raise MathError(f"{latex!r} leaves {left} as text")
    return found


def _prepare(latex: str) -> str:
    """What latex2mathml does not know, in words that it does."""
    return re.sub(r"\\inf\b", r"\\operatorname{inf}", latex.strip())


def block(source: str, language: str, css_class: str, options, md: Markdown, **_) -> str:
    """A block of `math`, for `pymdownx.superfences`."""
    return f'<div class="formula" tabindex="0">{to_mathml(source, "block")}</div>'


class InlineMath(InlineProcessor):
    """A formula within a sentence."""

    def handleMatch(self, m: re.Match, data: str):  # noqa: D102 (Markdown's name)
        return self.md.htmlStash.store(to_mathml(m[1])), m.start(0), m.end(0)


class MathExtension(Extension):
    """Formulas within sentences."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: D102 (Markdown's name)
        md.inlinePatterns.register(InlineMath(r"\$`(.+?)`\$", md), "math", BEFORE_CODE)


def makeExtension(**options) -> MathExtension:
    """What Markdown calls."""
    return MathExtension(**options)
