"""The architecture, read from the source: who may import whom, how long a file may grow."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "muon_optax"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Arrows point from a module to those of ours that it may import; a folder stands for its files.
MAY_IMPORT = {
    "muon_optax.checks": set(),
    "muon_optax.polynomials": set(),
    "muon_optax.coefficients": {"polynomials"},
    "muon_optax.theory": {"coefficients", "polynomials", "theory"},
    "muon_optax.polar": {
        "checks",
        "coefficients",
        "polynomials",
        "polar",
        "saturation",
        "stacking",
    },
    "muon_optax.dims": {"checks", "dims"},
    "muon_optax.stacking": set(),
    "muon_optax.scaling": set(),
    "muon_optax.planning": {"alias", "checks", "dims", "planning", "polar", "scaling"},
    "muon_optax.decay": {"checks", "saturation"},
    "muon_optax.attention": {"checks"},
    "muon_optax.neurons": {"checks", "dims", "sharding"},
    "muon_optax.agreement": {"checks", "saturation"},
    "muon_optax.partition": {"agreement", "dims", "sharding"},
    "muon_optax.sharding": {"checks", "dims", "polar", "sharding"},
    "muon_optax.saturation": set(),
    "muon_optax.momentum": {"checks", "saturation"},
    "muon_optax.nonfinite": {"dims", "sharding"},
    "muon_optax.transform": {
        "checks",
        "dims",
        "momentum",
        "nonfinite",
        "polar",
        "saturation",
        "scaling",
        "sharding",
    },
    "muon_optax.diagnostics": {
        "checks",
        "diagnostics",
        "dims",
        "nonfinite",
        "polar",
        "sharding",
        "transform",
    },
    "muon_optax.compat": {
        "alias",
        "checks",
        "coefficients",
        "compat",
        "decay",
        "dims",
        "partition",
        "polar",
        "transform",
    },
    "muon_optax.alias": {
        "agreement",
        "checks",
        "decay",
        "diagnostics",
        "dims",
        "nonfinite",
        "partition",
        "polar",
        "sharding",
        "transform",
    },
}


def imports(path):
    """Every module that a file imports, doctests apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            if node.module == "muon_optax":
                yield from (f"muon_optax.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "muon_optax"])
def test_data_goes_one_way(module):
    allowed = MAY_IMPORT[".".join(module.split(".")[:2])]
    ours = {
        name.split(".")[1]
        for name in imports(MODULES[module])
        if name.startswith("muon_optax.")
    }
    assert ours <= allowed


@pytest.mark.parametrize(
    "module",
    [
        m
        for m in MODULES
        if m.split(".")[1:2] in (["coefficients"], ["polynomials"], ["theory"])
    ],
)
def test_scalar_mathematics_needs_no_jax(module):
    assert not {n for n in imports(MODULES[module]) if n.split(".")[0] in ("jax", "optax")}


@pytest.mark.parametrize("module", MODULES)
def test_only_public_names_of_other_packages_are_used(module):
    private = [
        n for n in imports(MODULES[module]) if any(p.startswith("_") for p in n.split("."))
    ]
    assert not private


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module):
    source = MODULES[module].read_text()
    assert len(source.splitlines()) <= 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, node.name


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_its_first_line_what_it_knows(module):
    first = ast.get_docstring(ast.parse(MODULES[module].read_text())).splitlines()[0]
    assert first.startswith(("Knows ", "Muon for JAX"))
