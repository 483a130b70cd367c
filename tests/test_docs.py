"""Docs are executed: snippets run, tables equal the results, public names are documented."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

import muon_optax
from benchmarks import report
from benchmarks.__main__ import NAMES
from benchmarks.record import RESULTS

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# A block of text right behind a snippet is what it prints.
SNIPPETS = [
    (page.name, number, code, printed)
    for page in PAGES
    for number, (code, printed) in enumerate(
        re.findall(
            r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", page.read_text(), re.DOTALL
        )
    )
]
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (muon_optax, muon_optax.theory, muon_optax.diagnostics, muon_optax.compat)
    for name, value in vars(module).items()
    if not name.startswith("_") and not inspect.ismodule(value)
}
RECORDS = {"PolarMethod", "MuonState", "MuonDimensionNumbers", "Certificate", "RecordState"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "number", "code", "printed"),
    SNIPPETS,
    ids=[f"{page}-{number}" for page, number, *_ in SNIPPETS],
)
def test_a_snippet_runs(page, number, code, printed, capsys):
    exec(compile(code, f"{page}:{number}", "exec"), {"__name__": "__main__"})
    if printed:
        assert capsys.readouterr().out == printed


def test_a_page_is_told_what_it_asks_for_in_vain():
    with pytest.raises(ValueError, match="no table is called 'stepp'; use one of"):
        report.filled("<!-- stepp of cpu-2-cores -->\n<!-- end -->")
    with pytest.raises(
        FileNotFoundError, match=r"run `python -m benchmarks step` .*cpu-2-cores"
    ):
        report.filled("<!-- step of nowhere -->\n<!-- end -->")


def test_show_prints_the_tables_of_one_measurement(capsys, monkeypatch):
    monkeypatch.setattr(report, "folder", lambda: RESULTS / "cpu-2-cores")
    report.show("step")
    said = capsys.readouterr().out
    assert said.startswith("step\n\n| parameters |")
    assert said.count("| --- |") == 2  # the trees, and shape by shape


def test_the_pages_have_snippets():
    assert {page for page, *_ in SNIPPETS} >= {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_equal_the_results(page):
    text = page.read_text()
    assert report.filled(text) == text, "run `python -m benchmarks report`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
        path = next(filter(None, target))
        assert path.startswith("https://") or (page.parent / path).exists(), path


def test_the_readme_shows_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_benchmarks_extras_and_targets_that_exist(page):
    text, project = page.read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {*re.findall(r"-m benchmarks (\w+)", text)} <= {*NAMES, "NAME"}
    extras = {x for found in re.findall(r"'\.\[([\w,]+)\]'", text) for x in found.split(",")}
    assert extras <= set(project["project"]["optional-dependencies"])
    for script in re.findall(r"bash (\S+\.sh)", text):
        assert (ROOT / script).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_named_on_a_page_exist(page):
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", page.read_text())
    assert named or page.name != "numerics.md"
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), name


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if callable(v)])
def test_a_public_function_has_arguments_errors_and_an_example(name):
    value = PUBLIC[name]
    doc = inspect.getdoc(value)
    assert doc
    name = name.rpartition(".")[2]
    if name in RECORDS:
        return
    assert ">>>" in doc, "an executed example"
    if inspect.isfunction(value):
        cannot_fail = name in (
            "kernel_layout",
            "scalar_map",
            "tuned_step",
            "tuned_sgdm_step",
            "products",
        )
        assert "Args:" in doc and "Returns:" in doc and ("Raises:" in doc or cannot_fail)


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert muon_optax.__version__ == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
