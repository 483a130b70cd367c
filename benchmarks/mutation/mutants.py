"""Knows which single faults are planted: one replacement per construct, by cosmic-ray."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

from benchmarks.record import ROOT

# Each construct's nearest relative, which a weak test mistakes for it first.
BINARY = ("Mul_Div", "Div_Mul", "Add_Sub", "Sub_Add", "Pow_Mul", "FloorDiv_Div", "Mod_Mul")
COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Is_IsNot")
OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in BINARY),
    *(f"ReplaceComparisonOperator_{pair}" for pair in (*COMPARISONS, "IsNot_Is")),
    *(f"ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Not")),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("AddNot", "NumberReplacer", "ZeroIterationForLoop", "RemoveDecorator"),
    *("ReplaceContinueWithBreak", "ReplaceBreakWithContinue"),
)


@dataclass(frozen=True)
class Mutant:
    """A file with one fault; `before` and `after` are the first line that differs."""

    path: str
    line: int
    operator: str
    before: str
    after: str
    source: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file that is another program, annotations apart."""
    source, tree = path.read_text(), get_ast(path.read_text())
    program, name = _program(source), path.relative_to(ROOT).as_posix()
    for operator_name in OPERATORS:
        operator = get_operator(f"core/{operator_name}")()
        for occurrence in _occurrences(tree, operator):
            mutated = mutate_code(source, operator, occurrence)
            assert mutated, f"{name}: {operator_name} {occurrence} is gone"
            if _program(mutated) not in (program, ""):
                line, before, after = _difference(source, mutated)
                yield Mutant(name, line, operator_name, before, after, mutated)


def _occurrences(tree: ast.AST, operator: Operator) -> Iterator[int]:
    """The number of an operator's first change of each place: a number has two, ±1."""
    number, seen = 0, set()
    for node in ast_nodes(tree):
        for place in operator.mutation_positions(node):
            if place not in seen:
                yield number
            seen.add(place)
            number += 1


def _program(source: str) -> str:
    """What is executed, "" where it is no Python, as `not` before an assignment."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None):
                setattr(node, field, ast.Constant(None))
    return ast.dump(tree)


def _difference(source: str, mutated: str) -> tuple[int, str, str]:
    """Where two texts first differ, and both lines."""
    pairs = zip(source.splitlines(), mutated.splitlines())
    return next((n, a.strip(), b.strip()) for n, (a, b) in enumerate(pairs, 1) if a != b)
