"""Refuse a simulated call whose plaintext program would take NaN for an index out of range.

Shares hold no NaN, so the compiler leaves the selection of NaN out. Here the caller's own values tell whether
it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto_spu import ir
from ditto_spu.errors import RangeError
from ditto_spu.frontend.trace import Traced
from ditto_spu.passes.fuse.simplify import is_filled_gather
from ditto_spu.passes.fuse.unroll_control_flow import flatten


class FillCheck:
    """The tests "index in range" of a traced call, as a program of their own."""

    def __init__(self, traced: Traced) -> None:
        module = ir.parse(traced.module_text)
        ir.inline_calls(module)
        if not any(is_filled_gather(op) for op in ir.walk(ir.main(module))):
            self._places: list[str] = []
            return
        flatten(module, [False] * len(traced.arguments))
        operations = ir.ops(ir.body(ir.main(module)))[:-1]
        fills = [op for op in operations if is_filled_gather(op)]
        self._places = [_place(op) for op in fills]
        tests = [op.operands[0] for op in fills]
        needed, chosen = set(tests), []
        for op in reversed(operations):
            if any(result in needed for result in op.results):
                chosen.append(op)
                needed.update((*op.operands, *ir.captured(op)))
        self._text = ir.extract(chosen[::-1], ir.arguments(module), tests, "fills") if tests else ""

    def require(self, arrays: Sequence[Any]) -> None:
        """Raise RangeError, with the line, for the first look-up out of range.

        arrays: the arrays of the call, in the order of the program's arguments.
        """
        if not self._places:
            return
        for place, inside in zip(self._places, ir.evaluate(self._text, arrays), strict=True):
            if not inside.all():
                raise RangeError(
                    f"{place}: an index is out of range, where JAX gives NaN, which shares cannot hold: "
                    'take mode="clip" or mode="wrap", or give indices in range'
                )


def _place(op: ir.Op) -> str:
    path = ir.path_of(op)
    return f"look-up at '{path}' ({ir.source_of(op)})" if path else f"look-up ({ir.source_of(op)})"
