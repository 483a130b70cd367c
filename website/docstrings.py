"""Our sections of docstrings, in the words of Griffe's Google style."""

import re

import griffe

# Griffe knows "Examples" and takes any other word for the title of a box.
RENAMED = {"Example:": "Examples:"}


class Sections(griffe.Extension):
    """Renames sections before Griffe parses them."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:  # noqa: D102 (Griffe's name)
        if obj.docstring:
            obj.docstring.value = adapt(obj.docstring.value)


def adapt(text: str) -> str:
    """A docstring whose examples Griffe finds, and whose source is a paragraph."""
    for ours, griffes in RENAMED.items():
        text = re.sub(rf"^{ours}$", griffes, text, flags=re.MULTILINE)
    return re.sub(r"^Source: ", "**Source:** ", text, flags=re.MULTILINE)
