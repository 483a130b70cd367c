"""The hooks of `mkdocs.yml`: pages that no file in `docs/` is, and links for the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import links, reference

STYLE = Path(__file__).with_name("site.css")
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".json": "json", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the style, the pages of the top level and the reference, and what pages link to."""
    files.append(File.generated(config, STYLE.name, abs_src_path=str(STYLE)))
    for uri, path in links.TOP.items():
        files.append(File.generated(config, uri, content=path.read_text()))
    for uri, text in reference.pages().items():
        files.append(File.generated(config, uri, content=text))
    pages = [links.origin(file.src_uri) for file in files if file.is_documentation_page()]
    texts = {page: page.read_text() for page in pages if page.exists()}
    found = {path for page, text in texts.items() for path in links.outside(text, page)}
    for path in sorted(found):
        uri = links.uri_of(path)
        if path.suffix in links.PICTURES:
            files.append(File.generated(config, uri, abs_src_path=str(path)))
        else:
            files.append(File.generated(config, uri, content=_source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository, as links of the site."""
    return links.adapt(markdown, page.file.src_uri)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse what a browser would load from elsewhere, and formulas that are left as LaTeX."""
    if loaded := re.search(
        r'<(script|img|link rel="stylesheet")[^>]* (src|href)="https?:', output
    ):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {loaded[0]}")
    if "$`" in output or "$<code>" in output:
        raise PluginError(f"{page.file.src_uri} has a formula that was not read")
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site without its style, which MkDocs does not notice."""
    for name in config.extra_css:
        if not (Path(config.site_dir) / str(name)).exists():
            raise PluginError(f"{name} of `extra_css` is not in the site")


def _source_page(path: Path) -> str:
    """A file of the repository as a page."""
    name = path.relative_to(links.ROOT).as_posix()
    language = LANGUAGES.get(path.suffix, "text")
    fence = f"````{language}\n{path.read_text()}\n````\n"
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n{fence}"
