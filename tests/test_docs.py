"""Docs are executed: snippets run, tables equal the results, what is named exists."""

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from test_layout import PUBLIC_MODULES, public_names

import muon_optax
from benchmarks import record, report
from benchmarks.__main__ import NAMES
from benchmarks.record import RESULTS
from website import links, reference, snippets

ROOT = Path(__file__).parent.parent
PAGES = snippets.pages()
PROGRAMS = [
    pytest.param(page, program, id=program[0].name)
    for page in PAGES
    for program in snippets.programs(page)
]
assert PROGRAMS, "no page has a snippet"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "program"), PROGRAMS)
def test_a_snippet_prints_what_stands_behind_it(page, program, request):
    printed = snippets.outputs(program)
    if request.config.getoption("write_outputs"):
        snippets.write(page, dict(zip([s.name for s in program], printed)))
    else:
        for snippet, found in zip(program, printed):
            assert found == snippet.printed, f"{snippet.name}: run `make outputs`"


def test_every_snippet_shows_its_output():
    silent = [s.name for page in PAGES for s in snippets.of(page) if not s.printed]
    assert not silent, f"print something, then run `make outputs`: {silent}"


def test_a_page_has_at_most_250_lines():
    lengths = {snippets.name_of(page): len(page.read_text().splitlines()) for page in PAGES}
    assert not {name: length for name, length in lengths.items() if length > 250}


def test_the_reference_has_every_public_name():
    modules = [importlib.import_module(f"muon_optax.{name}") for name in PUBLIC_MODULES]
    public = {f"{m.__name__}.{n}" for m in (muon_optax, *modules) for n in public_names(m)}
    public -= {m.__name__ for m in modules}
    assert reference.names() == public


def test_every_page_is_in_the_navigation_once():
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = re.findall(r"[\w/]+\.md", text)
    there = [snippets.name_of(page) for page in PAGES[1:]] + [*reference.pages(), *links.TOP]
    assert sorted(named) == sorted(there)


def test_a_page_is_told_what_it_asks_for_in_vain():
    with pytest.raises(ValueError, match="no table is called 'stepp'; use one of"):
        report.filled("<!-- stepp of cpu-2-cores -->\n<!-- end -->")
    with pytest.raises(
        FileNotFoundError, match=r"run `python -m benchmarks step` .*cpu-2-cores"
    ):
        report.filled("<!-- step of nowhere -->\n<!-- end -->")


def test_results_of_an_accelerator_appear_in_the_pages(tmp_path, monkeypatch):
    page = "<!-- speed of accelerators -->\n<!-- end -->"
    for module in (report, record):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert "`make accelerator`" in report.filled(page)
    step = json.loads((RESULTS / "cpu-2-cores" / "step.json").read_text())
    step["provenance"]["device"] = "NVIDIA H200"
    (tmp_path / "nvidia-h200-16-cores").mkdir()
    (tmp_path / "nvidia-h200-16-cores" / "step.json").write_text(json.dumps(step))
    said = report.filled(page)
    assert "NVIDIA H200" in said and "`optax.contrib.muon`" in said


def test_show_prints_the_tables_of_one_measurement(capsys, monkeypatch):
    monkeypatch.setattr(report, "folder", lambda: RESULTS / "cpu-2-cores")
    report.show("step")
    said = capsys.readouterr().out
    assert said.startswith("step\n\n| parameters |")
    assert said.count("| --- |") == 2  # the trees, and shape by shape


def test_tables_equal_the_results():
    old = [page.name for page in PAGES if report.filled(page.read_text()) != page.read_text()]
    assert not old, "run `python -m benchmarks report`"


def test_links_lead_to_files_that_exist():
    targets = [
        (page, target)
        for page in PAGES
        for pair in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text())
        for target in pair
        if target and not target.startswith("https://")
    ]
    assert targets
    assert not [(p.name, target) for p, target in targets if not (p.parent / target).exists()]


def test_what_commands_on_a_page_name_exists():
    """Targets of make, benchmarks, extras, scripts, and tests."""
    text = "\n".join(page.read_text() for page in PAGES)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*re.findall(r"^make ([\w-]+)", text, re.MULTILINE)} <= {*targets}
    assert {*re.findall(r"-m benchmarks (\w+)", text)} <= {*NAMES, "NAME"}
    assert {*re.findall(r"-m tests.quality (\w+)", text)} <= {"catalogue", "soak"}
    extras = re.findall(r"'\.\[([\w,]+)\]'", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*",".join(extras).split(",")} <= {*known["optional-dependencies"]}
    assert not [x for x in re.findall(r"bash (\S+\.sh)", text) if not (ROOT / x).exists()]
    tests = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert tests
    for file, name in tests:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), (file, name)
