"""The commands and their arguments."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import jax

from muon_optax.command._trees import read_tree
from muon_optax.comparison._compare import compare
from muon_optax.comparison._contenders import DEFAULT
from muon_optax.comparison._estimated import ELSEWHERE
from muon_optax.dims import LAYOUTS
from muon_optax.planning._plan import plan

_EXAMPLE = """
  python -m muon_optax bench 768x3072 12x1024x1024 --dtype bfloat16 --methods jordan,fast,svd
  python -m muon_optax bench --tree my_package.model:make_params --target v5e
  python -m muon_optax check model.safetensors --layout pytorch
"""


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. For a wrong argument, print one sentence and exit with status 2."""
    given = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # the terminal may lack ×
        sys.stdout.reconfigure(errors="replace")
    try:
        given.run(given)
    except (ValueError, RuntimeError) as error:
        # Replace arguments of the library by options of the command.
        pattern = r"dims=(?:LAYOUTS\['(\w+)'\]|([A-Z]{4,})\b)"
        option = lambda found: f"--layout {(found[1] or found[2]).lower()}"
        sys.exit(_fail(re.sub(pattern, option, str(error)), 2))
    except BrokenPipeError:  # the reader of the output, such as head, has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    _say(message)
    return status


def _say(message: str) -> None:
    print(f"muon_optax: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "python -m muon_optax",
        description="Compare polar methods on your matrices; plan how muon trains a model.",
        epilog=f"examples:{_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    bench = commands.add_parser("bench", help="compare polar methods: time, memory, accuracy")
    bench.set_defaults(run=_bench)
    bench.add_argument("shapes", nargs="*", metavar="SHAPE", help="768x3072 or 12x1024x1024")
    _add_tree(bench, "--tree")
    bench.add_argument("--methods", default=",".join(DEFAULT), help="default: %(default)s")
    bench.add_argument(
        "--dtype", help="dtype of the matrices; default: that of TREE, or float32"
    )
    targets = ", ".join(ELSEWHERE)
    bench.add_argument("--target", help=f"estimate times for another device: {targets}")
    bench.add_argument(
        "--out", default="comparison", help="writes OUT.json and OUT.png; default: %(default)s"
    )
    for name, run, text in (
        ("plan", _plan, "show how muon would train each parameter"),
        ("check", _check, "show only doubtful parameters; exit status 1 if there are any"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        _add_tree(command, "tree")
    return parser


def _add_tree(parser: argparse.ArgumentParser, name: str) -> None:
    text = (
        "a checkpoint (.npz, .safetensors, Orbax), or MODULE:FUNCTION that returns parameters"
    )
    parser.add_argument(name, help=text, metavar="TREE")
    layouts = f"library that TREE's names follow: {', '.join(LAYOUTS)}; default: %(default)s"
    parser.add_argument("--layout", default="flax", help=layouts)


def _bench(given: argparse.Namespace) -> None:
    if bool(given.shapes) == bool(given.tree):
        raise ValueError("pass shapes such as 768x3072, or --tree TREE, but not both")
    if not (folder := Path(given.out).parent).is_dir():
        raise ValueError(f"--out {given.out}: there is no folder {folder}")
    if not (draws := find_spec("matplotlib")):
        _say("matplotlib is missing, so there is no picture: pip install matplotlib")
    matrices = read_tree(given.tree) if given.tree else given.shapes
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are measured
    with _progress_bar() as progress:
        found = compare(
            matrices,
            given.methods,
            dims=_layout(given.layout),
            dtype=given.dtype,
            target=given.target,
            progress=progress,
        )
    print(found)
    _write(found.save, f"{given.out}.json")
    if found.times and draws:
        _write(lambda path: found.plot().savefig(path, dpi=130), f"{given.out}.png")
    if found.interrupted:
        sys.exit(_fail("interrupted; the results so far are above", 130))


def _write(write: Callable[[str], None], path: str) -> None:
    """Write a file. If that fails, print one sentence and exit with status 1."""
    try:
        write(path)
    except OSError as error:
        sys.exit(_fail(f"{path}: {error.strerror or error}", 1))


def _plan(given: argparse.Namespace) -> None:
    print(plan(read_tree(given.tree), _layout(given.layout)))


def _check(given: argparse.Namespace) -> None:
    found = plan(read_tree(given.tree), _layout(given.layout))
    if not found.doubts:
        return print(f"None of {len(found.leaves)} leaves is doubtful.")
    print(found.advice)
    sys.exit(1)


def _layout(name: str) -> Any:
    if name not in LAYOUTS:
        raise ValueError(f"--layout {name}; use one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show progress on stderr: a bar, or a line for each part of the work without `rich`."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda done, total, text: print(f"{done + 1}/{total} {text}", file=sys.stderr)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=text
        )
