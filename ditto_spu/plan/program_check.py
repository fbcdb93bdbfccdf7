"""Checks the size of a step's program: how deep it nests, what it calls, and what it takes to run it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ditto_spu import ir

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"->|[\[\](){}<>]")
_MOST_BRACKETS = 64  # of text inside each other
_MOST_CALLS = 32  # of functions inside each other
_MOST_OPERATIONS = 1 << 15  # of one program, when every call is written out
# What an element costs beyond one addition, roughly.
_COSTS = {
    **dict.fromkeys(("scatter", "sort"), 1000),
    **dict.fromkeys(("gather", "dynamic_slice", "dynamic_update_slice", "divide", "remainder"), 10),
    **dict.fromkeys(("cbrt", "cosine", "exponential", "exponential_minus_one", "log", "log_plus_one"), 20),
    **dict.fromkeys(("logistic", "power", "rsqrt", "sine", "sqrt", "tan", "tanh"), 20),
}


@dataclass(frozen=True)
class ProgramSize:
    """What it takes to run a program.

    operations: their number, when every call is written out.
    largest: the bytes of the largest value. bytes: those of all values together.
    work: the time of a run, in units of one addition or multiplication of two numbers, roughly.
    """

    operations: int = 0
    largest: int = 0
    bytes: int = 0
    work: int = 0

    def __add__(self, other: ProgramSize) -> ProgramSize:
        return ProgramSize(
            self.operations + other.operations,
            max(self.largest, other.largest),
            self.bytes + other.bytes,
            self.work + other.work,
        )


def parse_bounded(text: str) -> ir.Module:
    """Return the module in `text`. Raises ValueError if it nests too deeply to be parsed."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub('""', text)):
        if bracket in "[({<":
            depth += 1
        elif bracket != "->":
            depth -= 1
        if depth > _MOST_BRACKETS:
            raise ValueError(f"its program nests more than {_MOST_BRACKETS} brackets")
    return ir.parse(text)


def program_size(module: ir.Module) -> ProgramSize:
    """Return what it takes to run @main.

    Composites count as calls of their decompositions. Raises ValueError if a function calls itself or calls
    nest too deeply, if there are too many operations, or if a value is no array of a known shape and type.
    """
    functions = ir.functions(module)
    for function in functions.values():
        if function.name != "func.func":
            raise ValueError(f"its program holds '{function.name}'")
    sizes: dict[str, ProgramSize] = {}

    def of_function(name: str, depth: int) -> ProgramSize:
        if depth > _MOST_CALLS:
            raise ValueError(f"its program calls itself, or nests more than {_MOST_CALLS} calls")
        if name not in sizes:
            sizes[name] = of_all(ir.ops(ir.body(functions[name])), depth)
        return sizes[name]

    def of_all(operations: Sequence[ir.Op], depth: int) -> ProgramSize:
        found = ProgramSize()
        for op in operations:
            inside = [each for region in op.regions for block in region.blocks for each in ir.ops(block)]
            inner = of_all(inside, depth)
            for name in _called(op):
                inner += of_function(name, depth + 1)
            found += _size(op, inner)
            if found.operations > _MOST_OPERATIONS:
                raise ValueError(f"its program has more than {_MOST_OPERATIONS} operations")
        return found

    return of_function("main", 0)


def _called(op: ir.Op) -> list[str]:
    names = {"func.call": "callee", "stablehlo.composite": "decomposition"}
    return [ir.symbol(op, names[op.name])] if op.name in names else []


def _size(op: ir.Op, inner: ProgramSize) -> ProgramSize:
    """Return the size of one operation. `inner` is that of a function that it calls, or of its regions."""
    sizes = [math.prod(_shape(each)) * ir.dtype(each).itemsize for each in op.results]
    own = ProgramSize(1, max(sizes, default=0), sum(sizes), 0) + inner
    if _called(op):
        return own
    name = op.name.removeprefix("stablehlo.")
    values = op.results if name in ("dot_general", "convolution") else (*op.results, *op.operands)
    elements = max((math.prod(_shape(each)) for each in values), default=0)
    return replace(own, work=elements * (_COSTS.get(name, 1) * _terms(op) + inner.work))


def _shape(value: ir.Value) -> tuple[int, ...]:
    if not ir.is_known(value) or any(size < 0 for size in ir.shape(value)):
        raise ValueError("its program has values of an unknown type or shape")
    return ir.shape(value)


def _terms(op: ir.Op) -> int:
    """Return how many products or sums each element of the result takes."""
    if op.name == "stablehlo.dot_general":
        axes = ir.dimensions(op, "dot_general", "lhs_contracting_dimensions")
        wide = ir.dtype(op.results[0]).itemsize == 8  # processors have no vectors of such products
        return (10 if wide else 1) * math.prod(ir.shape(op.operands[0])[axis] for axis in axes)
    if op.name == "stablehlo.convolution":
        return math.prod(ir.shape(op.operands[1]))
    if op.name == "stablehlo.reduce_window":
        return math.prod(ir.attribute(op, "window_dimensions"))
    return 1
