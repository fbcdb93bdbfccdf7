"""Find integers that leave their type before an operation reads them as numbers, or where JAX saturates.

Integers are shared in ring 64, whatever their type is. A sum that leaves 32 bits wraps when it is
reconstructed, as in JAX. But a comparison, a division or a conversion to a float on the way would see the
number that has not wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import enable_x64
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.errors import RangeError
from ditto_spu.ir.arithmetic import kind
from ditto_spu.passes.analysis.needed import Ways, choices, mask, predicates, ways

# The lower bits of these results depend on the lower bits of the operands at these places alone.
_MODULAR: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("add", "subtract", "multiply", "negate", "dot_general", "and", "or", "xor", "not")),
    **dict.fromkeys(("broadcast_in_dim", "reshape", "transpose", "slice", "reverse", "concatenate")),
    "select": (1, 2),
    "pad": (0, 1),
    "gather": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
}
_SUMS = ("reduce", "reduce_window")
_RING = 64  # wider integers wrap as the ring does


@dataclass(frozen=True)
class Arithmetic:
    """An operation whose result may wrap, and the ways by which its elements reach an output."""

    op: ir.Op
    ways: Ways

    def check(self, of: Callable[[ir.Value], NDArray[Any]]) -> None:
        """Raise RangeError if an element that an output takes leaves its type.

        of: gives the value of operands, and of the predicates of `ways`.
        """
        info = np.iinfo(ir.dtype(self.op.results[0]))
        exact = _exact(self.op, [of(each) for each in self.op.operands])
        if self.ways is not None and exact.shape == tuple(ir.shape(self.op.results[0])):
            booleans = list(dict.fromkeys(predicates(self.ways)))
            found = choices(self.ways, {each: place for place, each in enumerate(booleans)})
            exact = exact[np.asarray(mask(found, exact.shape, [jnp.asarray(of(each)) for each in booleans]))]
        if not exact.size or (exact.min() >= info.min and exact.max() <= info.max):
            return
        worst = int(exact.max()) if exact.max() > info.max else int(exact.min())
        path = ir.path_of(self.op)
        raise RangeError(
            f"{_written(self.op)} at '{path}' ({ir.source_of(self.op)}): an integer reached {worst}, which "
            + (
                f"{info.dtype} does not hold. JAX takes the end of the type, and shares wrap: clip it before"
                if _saturates(self.op)
                else f"wraps in {info.dtype}, and what reads it would see the number before it wraps: use "
                "smaller numbers, or the wider type"
            )
        )


def arithmetic(operations: Sequence[ir.Op], secret: Mapping[ir.Value, bool]) -> list[Arithmetic]:
    """Return the operations on secret integers whose results must not wrap.

    operations: those of @main, in order.
    """
    read: dict[ir.Value, bool] = {}
    taken = ways(operations)
    for op in reversed(operations):
        for result in op.results:
            read[result] = any(_reads(user, result, read) for user in ir.users(result))
    return [
        Arithmetic(op, taken[op.results[0]])
        for op in operations
        if len(op.results) == 1
        and secret.get(op.results[0], False)
        and ((read[op.results[0]] and _may_wrap(op)) or _saturates(op))
    ]


def _is_integer(value: ir.Value) -> bool:
    return ir.is_known(value) and not ir.is_float(value) and ir.dtype(value).kind in "iu"


def _reads(user: ir.Op, value: ir.Value, read: Mapping[ir.Value, bool]) -> bool:
    """Tell whether an operation, or one that reads its result, needs the number and not its lower bits."""
    name = kind(user)
    if name == "convert" and _is_integer(user.results[0]):
        narrower = ir.dtype(user.results[0]).itemsize <= ir.dtype(value).itemsize
        return not narrower or read.get(user.results[0], True)
    if name in _SUMS and not _is_sum(user):
        return True
    if user.name == "func.return":  # what is returned wraps when it is reconstructed
        return False
    if name == "popcnt":  # SPU counts the bits of the type
        return False
    if name not in _MODULAR and name not in _SUMS:
        return True
    places = _MODULAR.get(name)
    at = [place for place, each in enumerate(user.operands) if each == value]
    if places is not None and not set(at) <= set(places):
        return True
    return any(read.get(each, True) for each in user.results)  # operations inside of loops are not known


def _is_sum(op: ir.Op) -> bool:
    inside = [kind(each) for each in ir.ops(op.regions[0].blocks[0])]
    return inside == ["add", "return"] and len(op.results) == 1


def _may_wrap(op: ir.Op) -> bool:
    result = op.results[0]
    if not _is_integer(result) or 8 * ir.dtype(result).itemsize >= _RING:
        return False
    if kind(op) == "convert":
        return _is_integer(op.operands[0])
    return kind(op) in _EXACT or (kind(op) in _SUMS and _is_sum(op))


def _written(op: ir.Op) -> str:
    """Return the name of an operation, as the user wrote it where a product stands for a shift."""
    return "shift" if "shift" in ir.name_of(op).rpartition("/")[2] else kind(op)


def _saturates(op: ir.Op) -> bool:
    """Tell whether a float becomes an integer, which has ends in JAX."""
    return kind(op) == "convert" and _is_integer(op.results[0]) and ir.is_float(op.operands[0])


def _product(op: ir.Op, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    def pair(part: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        left, right = (
            ir.dimensions(op, "dot_general", f"{side}_{part}_dimensions") for side in ("lhs", "rhs")
        )
        return left, right

    with enable_x64():
        return np.asarray(lax.dot_general(x, y, (pair("contracting"), pair("batching"))))


_EXACT: Mapping[str, Callable[..., NDArray[Any]]] = {
    "add": lambda op, x, y: x + y,
    "subtract": lambda op, x, y: x - y,
    "multiply": lambda op, x, y: x * y,
    "negate": lambda op, x: -x,
    "dot_general": _product,
}


def _wide(value: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in 64 bits. Those of floats are cut at the ends of 62 bits."""
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        array = np.clip(np.nan_to_num(np.trunc(array.astype(np.float64))), -(2.0**62), 2.0**62)
    return array.astype(np.int64)


def _exact(op: ir.Op, operands: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the results in 64 bits. Sums of windows are bounded by the sum of all magnitudes."""
    wide = [_wide(each) for each in operands]
    if kind(op) == "convert":
        return wide[0]
    if kind(op) == "reduce":
        return np.asarray(wide[0].sum(tuple(ir.attribute(op, "dimensions"))) + wide[1])
    if kind(op) == "reduce_window":
        return np.asarray(np.abs(wide[0]).sum() + np.abs(wide[1]))
    return _EXACT[kind(op)](op, *wide)
