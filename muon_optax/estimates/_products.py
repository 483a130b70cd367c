"""The matrix products of a compiled program: their operations and their dtypes."""

# Unexpected HLO raises an error in any case.
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportOptionalSubscript=false

import math
import re
from dataclasses import dataclass

from muon_optax.estimates._instructions import Instruction, Program, arrays, lengths


@dataclass(frozen=True)
class Product:
    """A `dot`, or the convolution that a TPU's compiler makes of it.

    Attributes:
      operands: The dtypes of both operands.
      result: The dtype of the result.
      flops: Operations; a multiplication and an addition count as two.
      precision: `"highest"`, `"high"` or `"default"`. The default for float32 is TF32 on a GPU
        and bfloat16 on a TPU.
    """

    operands: tuple[str, str]
    result: str
    flops: int
    precision: str

    def __str__(self) -> str:
        note = f", {self.precision} precision" if "f32" in self.operands else ""
        return f"{' × '.join(self.operands)} → {self.result}{note}"


def product(instruction: Instruction, program: Program) -> Product | None:
    """Return an instruction as a product; None if it is not a matrix product."""
    if instruction.opcode not in ("dot", "convolution"):
        return None
    types = [program.by_name[name].result for name in instruction.operands]
    ((left, left_sides, _),), ((right, right_sides, _),) = map(arrays, types[:2])
    ((result, sides, _),) = arrays(instruction.result)
    if instruction.opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
        summed = math.prod(left_sides[i] for i in lengths(axes[1])) if axes else 1
        flops = 2 * math.prod(sides) * summed
    else:
        flops = _convolution_flops(instruction.text, left_sides, right_sides, sides)
    given = re.search(r"operand_precision=\{(\w+)", instruction.text)
    return Product((left, right), result, flops, given[1] if given else "default")


def _convolution_flops(text: str, left: list[int], right: list[int], out: list[int]) -> int:
    """Return the operations of a convolution.

    A TPU's compiler makes a batched product a convolution with much padding.
    """
    of_left, of_right, of_out = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", text).groups()
    total = 2 * right[of_right.index("i")]
    window = re.search(r"window=\{([^}]*)\}", text)
    fields = dict(re.findall(r"(\w+)=(\S+)", window[1] if window else ""))
    for axis, label in enumerate(of_out):
        if label.isdigit():
            length = left[of_left.index(label)]
            total *= _meetings(fields, int(label), length, out[axis])
        else:
            total *= out[axis]
    return total


def _meetings(fields: dict[str, str], axis: int, length: int, results: int) -> int:
    """Count the pairs of output and window position that read an input, along an axis."""

    def field(name: str) -> int:
        return int(fields[name].split("x")[axis]) if name in fields else 1

    low = int(fields["pad"].split("x")[axis].split("_")[0]) if "pad" in fields else 0
    positions = (
        result * field("stride") + k * field("rhs_dilate") - low
        for result in range(results)
        for k in range(field("size"))
    )
    dilate = field("lhs_dilate")
    return sum(0 <= p <= (length - 1) * dilate and p % dilate == 0 for p in positions)
