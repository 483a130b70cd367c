"""Pages as GitHub shows them, made pages of the site: links, pictures, folded parts.

Pages link to files of the repository. A file outside `docs/` gets a page or a copy of its own,
so that the site needs no other.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Pages of the site that are files at the top level.
TOP = {
    "index.md": ROOT / "README.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
}
PICTURES = {".png", ".svg", ".jpg"}
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
NAMED = re.compile(r"\[[\w/]+\.md\](?=\(([\w./]+\.md)[#)])")  # a link that shows a file's name
IMAGE = re.compile(r'<img src="([^"]+)" alt="([^"]*)"(?: width="(\d+)")?>')


def origin(uri: str) -> Path:
    """The file that a page of the site is made of."""
    return TOP.get(uri, DOCS / uri)


def uri_of(path: Path) -> str:
    """The page or copy that a file of the repository has on the site."""
    for uri, file in TOP.items():
        if file == path:
            return uri
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    inside = path.relative_to(ROOT).as_posix()
    return f"files/{inside}" if path.suffix in PICTURES else f"source/{inside}.md"


def outside(text: str, page: Path) -> Iterator[Path]:
    """The files outside `docs/` that a page links to or shows."""
    for part in FENCE.split(text)[::2]:
        for target in [m[2] for m in LINK.finditer(part)] + [
            m[1] for m in IMAGE.finditer(part)
        ]:
            path = _resolve(target, page)
            inside = path and (path.is_relative_to(DOCS) or path in TOP.values())
            if path and path.exists() and not inside:
                yield path


def adapt(text: str, uri: str) -> str:
    """A page's text with links for the site, Markdown's pictures, and lists that it sees."""
    parts = FENCE.split(text)
    parts[::2] = [_adapt_prose(part, uri) for part in parts[::2]]
    return "".join(parts)


def _adapt_prose(text: str, uri: str) -> str:
    text = IMAGE.sub(_picture, text)
    text = text.replace("<details><summary>", '<details markdown="1"><summary>')
    text = NAMED.sub(lambda m: f"[{_title(m[1], origin(uri))}]", text)
    return LINK.sub(lambda m: f"{m[1]}{_target(m[2], uri)}{m[3] or ''}{m[4]}", text)


def _title(target: str, page: Path) -> str:
    """The title of the page that a link leads to, or the link itself."""
    path = _resolve(target, page)
    first = path.read_text().partition("\n")[0] if path and path.exists() else ""
    return first.removeprefix("# ") or target


def _picture(found: re.Match) -> str:
    width = f'{{ width="{found[3]}" }}' if found[3] else ""
    return f"![{found[2]}]({found[1]}){width}"


def _target(target: str, uri: str) -> str:
    path = _resolve(target, origin(uri))
    if path is None:
        return target
    return posixpath.relpath(uri_of(path), posixpath.dirname(uri) or ".")


def _resolve(target: str, page: Path) -> Path | None:
    """The file that a link means; None if it leads elsewhere."""
    if re.match(r"[a-z]+:", target):
        return None
    path = (page.parent / target).resolve()
    return path if path.is_relative_to(ROOT) else None
