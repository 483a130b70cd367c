"""The architecture, read from the source: arrows between rooms, sizes, names."""

import ast
import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path

import muon_optax

PACKAGE = Path(muon_optax.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
PUBLIC_MODULES = ("coefficients", "compat", "diagnostics", "dims", "theory")

# A room is a folder, or a file next to the folders. It may import itself and these rooms.
LEAVES = {
    *("_casting", "_checks", "_leaves", "_platform"),
    *("_polynomials", "_ranges", "_text", "_warning"),
}
MAY_IMPORT = {room: set() for room in LEAVES} | {
    "_keywords": {"_checks"},
    "coefficients": {"_checks", "_polynomials"},
    "_operations": {"_polynomials", "coefficients"},
    "_schedules": {"_checks", "coefficients"},
    "theory": {"_checks", "_operations", "_polynomials", "_schedules", "_text", "coefficients"},
    "polar": {*LEAVES, "_operations", "_schedules", "coefficients"},
    "dims": {"_checks", "_leaves", "_ranges", "_warning"},
    "batching": {*LEAVES, "dims", "polar"},
    "_measures": {"_casting", "_leaves", "polar"},
    "transforms": {*LEAVES, "_keywords", "_measures", "batching", "dims", "polar"},
    "_readers": {"_leaves", "transforms"},
    "_history": {"_checks", "_readers"},
    "_spectra": {"_casting", "_measures", "_readers", "dims", "polar"},
    "diagnostics": {"_history", "_measures", "_readers", "_spectra", "transforms"},
    "_muon": {"_checks", "_keywords", "batching", "dims", "polar", "transforms"},
    "planning": {
        *(*LEAVES, "_keywords", "_muon", "_schedules", "coefficients"),
        *("dims", "polar", "theory", "transforms"),
    },
    "compat": {*LEAVES, "batching", "coefficients", "dims", "polar", "transforms"},
    "estimates": set(),
    "comparison": {*LEAVES, "dims", "estimates", "planning", "polar"},
    "command": {"comparison", "dims", "estimates", "planning"},
    "__main__": {"command"},
}
# The momentum knows no method and no mesh.
FORBIDDEN = {"transforms/_momentum.py": {"_measures", "batching", "polar"}}
NO_JAX = {"_operations", "_polynomials", "_schedules", "coefficients", "theory"}
DEVICES = {
    *("sharding", "shard_map", "make_mesh", "set_mesh", "devices", "local_devices"),
    *("device_put", "device_count", "process_count", "process_index", "default_backend"),
}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return name_of(path).partition("/")[0].removesuffix(".py")


def imports(tree):
    """Every module that a file imports, and every name that it takes from one, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write the module's whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_room_imports_only_the_rooms_that_it_may():
    """Data goes one way: an arrow that is not in the table is a mistake or a decision."""
    wrong = []
    for path, tree in TREES.items():
        name, room = name_of(path), room_of(path)
        allowed = {*MAY_IMPORT.get(room, ()), room} - FORBIDDEN.get(name, set())
        for imported in imports(tree) if room != "__init__" else ():
            package, *parts = imported.split(".")
            if package == "muon_optax" and parts[0] not in allowed:
                wrong.append(f"{name} imports {imported}")
            if room in NO_JAX and package in ("jax", "optax"):
                wrong.append(f"{name} imports {imported}: scalar mathematics needs no JAX")
    assert not wrong, "\n".join(wrong)
    assert {*FORBIDDEN} <= {name_of(path) for path in TREES}


def test_only_batching_and_what_measures_see_devices():
    """Elsewhere, neither a mesh nor the backend of this process decides anything."""
    wrong = []
    for path, tree in TREES.items():
        if room_of(path) in ("comparison", "estimates"):
            continue
        forbidden = {"default_backend"} if room_of(path) == "batching" else DEVICES
        used = {name.split(".")[1] for name in imports(tree) if name.startswith("jax.")}
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        wrong += [f"{name_of(path)} uses jax.{name}" for name in used & forbidden]
    assert not wrong, "\n".join(wrong)


def test_only_public_names_of_other_packages_are_used():
    wrong = [
        f"{name_of(path)} imports {name}"
        for path, tree in TREES.items()
        for name in imports(tree)
        if not name.startswith("muon_optax.") and re.search(r"(^|\.)_(?!_future)", name)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_short():
    """A file has at most 300 lines, a function 40 below its docstring."""
    long = []
    for path, tree in TREES.items():
        count = len(path.read_text().splitlines())
        long += [f"{name_of(path)} has {count} lines"] if count > 300 else []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                count = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{name_of(path)}: {node.name} has {count}"] if count > 40 else []
    assert not long, "\n".join(long)


def test_a_module_opens_with_what_is_in_it():
    """With a noun phrase: "The momentum …", never "Knows …"."""
    firsts = {name_of(path): ast.get_docstring(tree) or "" for path, tree in TREES.items()}
    wrong = [name for name, doc in firsts.items() if not doc or doc.startswith("Knows")]
    assert not wrong, "\n".join(wrong)


def public_names(module):
    """`__all__`; without it, what the file defines or imports under its own name (`X as X`)."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    names = set()
    for node in TREES[Path(module.__file__)].body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_a_public_object_has_one_spelling():
    spellings = defaultdict(list)
    modules = [importlib.import_module(f"muon_optax.{name}") for name in PUBLIC_MODULES]
    for module in (muon_optax, *modules):
        for name in sorted(public_names(module)):
            spellings[id(getattr(module, name))].append(f"{module.__name__}.{name}")
    double = [" = ".join(names) for names in spellings.values() if len(names) > 1]
    assert not double, "\n".join(double)


def undescribed(function):
    """What a public function's docstring lacks."""
    doc = inspect.getdoc(function) or ""
    parameters = [*inspect.signature(function).parameters]
    if parameters and "Args:" not in doc:
        yield "Args:"
    arguments = doc.partition("Args:")[2]
    for name in parameters:
        if not re.search(rf"^\s+\*{{0,2}}{name}( \(.*\))?: \S", arguments, re.MULTILINE):
            yield name
    if "Returns:" not in doc:
        yield "Returns:"
    if ">>>" not in doc:
        yield "an example"


def test_a_public_function_has_every_parameter_described_and_an_executed_example():
    modules = [
        muon_optax,
        *(importlib.import_module(f"muon_optax.{m}") for m in PUBLIC_MODULES),
    ]
    public = {f"{m.__name__}.{n}": getattr(m, n) for m in modules for n in public_names(m)}
    # The arguments of those in compat that replace Optax's are in Optax's own reference.
    functions = {
        name: x
        for name, x in public.items()
        if inspect.isfunction(x) and "are those of `optax.contrib" not in inspect.getdoc(x)
    }
    assert len(functions) > 20
    lacking = [
        f"{n} lacks {', '.join(w)}" for n, x in functions.items() if (w := [*undescribed(x)])
    ]
    assert not lacking, "\n".join(lacking)
