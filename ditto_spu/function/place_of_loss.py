"""Find the operation whose rounding lost the digits of an output, for a warning that names it.

The program with the roundings of all formats runs beside the one without. From the output the search goes to
operands that differ, until an operation has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.ops import subject
from ditto_spu.ops.cast import ENCODED, is_cast, read_cast
from ditto_spu.ops.decision import Kind, read

_LOST = 2.0**-8  # a value that differs by this part of its size has lost digits


@dataclass(frozen=True)
class _Loss:
    """How far a rounded value is from the exact one, as a part of the size beside it."""

    part: float
    size: float


_NONE = _Loss(0.0, 0.0)


def _of_array(rounded: NDArray[Any], exact: NDArray[Any]) -> _Loss:
    """Compare the largest difference with the largest element."""
    size = float(np.max(np.abs(exact), initial=0.0))
    apart = float(np.max(_apart(rounded, exact), initial=0.0))
    return _Loss(apart / size if size else 0.0, size)


def _of_element(rounded: NDArray[Any], exact: NDArray[Any]) -> _Loss:
    """Compare each difference with its own element: small divisors matter as large ones do."""
    sizes = np.abs(exact).ravel()
    if not sizes.any():
        return _NONE
    parts = _apart(rounded, exact).ravel() / np.where(sizes, sizes, np.inf)
    worst = int(np.argmax(parts))
    return _Loss(float(parts[worst]), float(sizes[worst]))


def _apart(rounded: NDArray[Any], exact: NDArray[Any]) -> NDArray[Any]:
    """Return the differences. Equal infinities do not differ."""
    with np.errstate(invalid="ignore"):
        return np.where(rounded == exact, 0.0, np.abs(rounded - exact))


def place_of_loss(lowered: Lowered, values: Sequence[Any], place: int) -> str:
    """Say where an output lost its digits, and what helps.

    values: one array for each input of the plan.
    """
    module = ir.parse(lowered.as_text("formats"))
    *operations, end = ir.ops(ir.body(ir.main(module)))
    results = (result for op in operations for result in op.results)
    numbers = [each for each in (*ir.arguments(module), *results) if ir.is_float(each)]
    programs = (
        ir.extract(operations, ir.arguments(module), numbers, "rounded"),
        _without_casts(module, numbers, operations),
    )
    pairs = [
        [np.asarray(each, np.float64) for each in found]
        for found in zip(*(ir.evaluate(text, values) for text in programs), strict=True)
    ]
    measures = [
        {value: measure(*pair) for value, pair in zip(numbers, pairs, strict=True)}
        for measure in (_of_array, _of_element)
    ]
    value = end.operands[place]
    if value not in measures[0] or measures[0][value].part <= _LOST:
        return "an error of a kernel grows on its way to it. Scale the values up"
    loss, by_element = measures[0][value], False
    while (maker := ir.define(value)) is not None:
        # Only kernels, such as a quotient, magnify the error of an element that is small beside others.
        decision = read(maker)
        magnifies = by_element or (decision is not None and decision.kind is Kind.KERNEL)
        for losses in measures if magnifies else measures[:1]:
            found = max(maker.operands, key=lambda each: losses.get(each, _NONE).part, default=value)
            if losses.get(found, _NONE).part > max(_LOST, min(loss.part, 1.0) / 4):
                value, loss, by_element = found, losses[found], losses is measures[1]
                break
        else:
            break
    return _words(value, loss.size, lowered.program.paths, ir.arguments(module))


def _without_casts(module: ir.Module, values: Sequence[ir.Value], operations: Sequence[ir.Op]) -> str:
    """Return the program without roundings, with an output for each of the values."""
    clone = ir.clone(module)
    body = ir.ops(ir.body(ir.main(clone)))[:-1]
    known = dict(zip(ir.arguments(module), ir.arguments(clone), strict=True))
    for op, copied in zip(operations, body, strict=True):
        source = known[op.operands[0]] if is_cast(op) else None
        if source is not None:
            ir.replace_all_uses(copied.results[0], source)
        known.update(zip(op.results, copied.results if source is None else [source], strict=True))
    return ir.extract(body, ir.arguments(clone), [known[each] for each in values], "exact")


def _words(value: ir.Value, size: float, paths: Sequence[str], arguments: Sequence[ir.Value]) -> str:
    """Say which value has too few steps, and what helps."""
    maker = ir.define(value)
    fxp = None
    if maker is not None and is_cast(maker):
        cast, source = read_cast(maker), maker.operands[0]
        fxp, maker = cast.target, ir.define(source)
        if cast.source == ENCODED:
            return f"argument '{paths[arguments.index(source)]}' {steps(size, fxp)}"
    if maker is None:
        return "values on the way lie below the resolution of their formats. Scale them up"
    decision = read(maker)
    name = maker.name if decision is None else subject(maker, decision.kind)
    where = f"{name} at '{ir.path_of(maker)}' ({ir.source_of(maker)})"
    if fxp is None:
        return f"{where} leaves a small difference of rounded values, at most {size:.3g}. Scale them up"
    return f"{where} {steps(size, fxp)}"


def steps(size: float, fxp: Fxp) -> str:
    """Say how many steps of its format a value reaches, and what helps."""
    return (
        f"reaches {size:.3g}, which is {size / fxp.ulp:.3g} steps of {fxp}, so that rounding leaves little "
        "of it. Scale the values up, or give them more fraction bits (rule `format`)"
    )
