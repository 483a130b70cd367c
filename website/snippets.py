"""The snippets of README and docs, and what they print.

A block of `text` behind a snippet is what it prints. `make outputs` writes it by running it.
"""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SNIPPET = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
# In these a snippet goes on where the one before it ended.
CONTINUED = ("tutorials", "getting_started.md")


def pages() -> list[Path]:
    """README and every page in `docs/`, at any depth."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@dataclass(frozen=True)
class Snippet:
    """A block of Python on a page, and the text behind it, None without one."""

    code: str
    printed: str | None
    name: str

    def run(self, scope: dict) -> str:
        """What the code prints, run in `scope`."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(self.code, self.name, "exec"), scope)
        return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def name_of(page: Path) -> str:
    """A page as tests call it."""
    return page.name if page.parent == ROOT else page.relative_to(DOCS).as_posix()


def of(page: Path) -> list[Snippet]:
    """The snippets of a page."""
    found = SNIPPET.finditer(page.read_text())
    return [Snippet(m[1], m[2], f"{name_of(page)}:{i}") for i, m in enumerate(found)]


def programs(page: Path) -> list[list[Snippet]]:
    """The snippets of a page that run one after another; of most pages each alone."""
    found = of(page)
    if name_of(page).split("/")[0] in CONTINUED:
        return [found] if found else []
    return [[snippet] for snippet in found]


def outputs(program: list[Snippet]) -> list[str]:
    """What each snippet of a program prints."""
    scope = {"__name__": "__main__"}
    return [snippet.run(scope) for snippet in program]


def write(page: Path, printed: dict[str, str]) -> None:
    """Put what snippets print behind them."""
    text = page.read_text()
    for snippet in of(page):
        if snippet.name in printed:
            block = f"```python\n{snippet.code}```\n"
            old = block + (
                f"\n```text\n{snippet.printed}```\n" if snippet.printed is not None else ""
            )
            text = text.replace(old, f"{block}\n```text\n{printed[snippet.name]}```\n", 1)
    page.write_text(text)
