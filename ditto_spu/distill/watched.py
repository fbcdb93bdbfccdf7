"""Run a compiler stage as a differentiable function that also returns the values distillation needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.calibration.headroom import Range
from ditto_spu.distill.settings import POINTS
from ditto_spu.emulation.interpreter import as_function
from ditto_spu.errors import InputError
from ditto_spu.ops import subject
from ditto_spu.ops.decision import read
from ditto_spu.ops.op import name_of
from ditto_spu.ops.softmax import SOFTMAX

Place = tuple[str, str]  # path, and op of the rules


@dataclass(frozen=True)
class Seen:
    """The results of one run.

    outputs: the outputs of the module.
    points: the values to match, each with the mask of those that count, or None.
    penalty: the penalty of the watched ranges.
    outside: how many values lie outside their ranges.
    """

    outputs: list[Array]
    points: list[tuple[Array, Array | None]]
    penalty: Array
    outside: Array


class Watched:
    """A module that is run by calling `watched(values)`, which returns `Seen`.

    The points are recognised by their composites. `rows` are the watched ranges, and `fill` is the fraction
    of a range that costs no penalty.
    """

    def __init__(
        self, text: str, points: Iterable[str], rows: Sequence[Range] = (), fill: float = 1.0
    ) -> None:
        module = ir.parse(text)
        self._run = as_function(module)
        self._points = [POINTS[each] for each in points]
        self._limits = _tightest(rows)
        self._fill = fill
        operations = ir.ops(ir.body(ir.main(module)))
        self.places = [
            (ir.path_of(op), name) for op in operations for name, _ in self._points if name_of(op) == name
        ]

    def __call__(self, values: Sequence[Any]) -> Seen:
        points: list[tuple[Array, Array | None]] = []
        penalties: list[Array] = []
        outside: list[Array] = []

        def watch(op: ir.Op, operands: list[Array], results: list[Array]) -> list[Array]:
            name, decision = name_of(op), read(op)
            mask = operands[1] if name == SOFTMAX.composite and len(operands) > 1 else None
            for wanted, place in self._points:
                if name == wanted:
                    points.append((results[0] if place is None else operands[place], mask))
            if decision is not None:
                limits = self._limits.get((decision.path, subject(op, decision.kind)), {})
                for what, (low, high) in limits.items():
                    if what == "second" and len(operands) < 2:
                        continue  # another operation with the same path and op
                    quantity = QUANTITIES[what](op, operands, results)
                    if mask is not None and what == "operand":
                        quantity = jnp.where(mask, quantity, 0.0)
                    penalties.append(_beyond(quantity, low, high, self._fill))
                    outside.append(jnp.sum((quantity > high) | (quantity < low)))
            return results

        outputs = self._run(values, watch)
        none = jnp.zeros((), jnp.float32)
        return Seen(outputs, points, sum(penalties, none), sum(outside, none))


def _difference(op: ir.Op, operands: list[Array], results: list[Array]) -> Array:
    if op.name == "stablehlo.maximum":
        return operands[0] - operands[1]
    return jnp.ptp(operands[0], axis=ir.attribute(op, "dimensions"))


# How to compute the quantity that a range limits. If several ranges limit one quantity, the tightest counts.
Quantity = Callable[[ir.Op, list[Array], list[Array]], Array]
QUANTITIES: Mapping[str, Quantity] = {
    "result": lambda op, operands, results: results[0],
    "operand": lambda op, operands, results: operands[0],
    "second": lambda op, operands, results: operands[1],
    "mean": lambda op, operands, results: jnp.mean(operands[0], axis=-1),
    "variance": lambda op, operands, results: jnp.var(operands[0], axis=-1),
    "difference": _difference,
}
_SAME = {
    "declared range": "result",
    "product": "result",
    "normalised": "result",
    "argument": "operand",
    "exponent": "operand",
    "divisor": "second",
}


def _tightest(rows: Sequence[Range]) -> dict[Place, dict[str, tuple[float, float]]]:
    limits: dict[Place, dict[str, tuple[float, float]]] = {}
    for row in rows:
        what = _SAME.get(row.what, row.what)
        known = limits.setdefault((row.path, row.op), {})
        low, high = known.get(what, (float("-inf"), float("inf")))
        known[what] = (max(low, row.low), min(high, row.high))
    return limits


def _beyond(x: Array, low: float, high: float, fill: float) -> Array:
    """Return the penalty of one example: the sum of squared excesses over the limits.

    An excess is the distance of a value beyond `fill` of its limit, relative to this bound.
    """
    over = jnp.maximum(x / (fill * high) - 1, 0)
    if low < 0:
        over += jnp.maximum(x / (fill * low) - 1, 0)
    elif low > 0:
        over += jnp.maximum(low / (fill * jnp.maximum(x, 1e-9)) - 1, 0)
    return jnp.sum(jnp.square(over)) / (x.shape[0] if x.ndim else 1)


def require_points(teacher: Watched, student: Watched) -> None:
    """Raise InputError if there is nothing to match, or if the two programs have different points."""
    if teacher.places != student.places:
        raise InputError("teacher and student differ in their softmax and layer normalisations")
    if not teacher.places:
        raise InputError(
            "the program has no softmax or layer normalisation to match layer by layer: set layer_steps = 0"
        )
