"""The emulation compiled once for all formats: scales of roundings and sizes of errors are its inputs.

`Lowered.emulate` runs a program with the roundings of one configuration; a search tries hundreds. Here every
operand and result is rounded to a grid that comes as an argument, and every result gets an error that is
spread evenly over an interval that comes as an argument too: what kernels add beyond the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.passes.analysis.classify import KERNEL_OPS, op_name

Site = tuple[str, str]  # path and kernel


def _rounded(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x on the grid of 1 / scale; untouched if scale is 0."""
    grid = jnp.where(scale > 0, scale, 1.0).astype(x.dtype)
    return jnp.where(scale > 0, jnp.round(x * grid) / grid, x)


def _disturbed(x: jax.Array, scale: jax.Array, size: jax.Array, seed: jax.Array) -> jax.Array:
    """x with an error that looks uniform in [-size, size], on the grid of 1 / scale."""
    number = jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape)
    noise = jnp.modf(jnp.abs(jnp.sin(number * 12.9898 + seed * 78.233) * 43758.5453))[0]
    return _rounded(x + (size * (2 * noise - 1)).astype(x.dtype), scale)


class Emulator:
    """A program with formats, runnable with other formats: those of any module assigned from the same one."""

    def __init__(self, module: ir.Module) -> None:
        module = ir.clone(module)
        block = ir.body(ir.main(module))
        operations = ir.ops(block)
        arguments = ir.arguments(module)
        count = len(_grids(module))
        first = operations[0]

        def emit(
            meaning: Callable[..., Any], operands: list[ir.Value], before: ir.Op = first
        ) -> list[ir.Value]:
            return ir.emit(meaning, operands, before, before.location)

        # The constants stand for arguments: `extract` makes them such.
        vectors = [emit(partial(jnp.zeros, count, jnp.float32), [])[0] for _ in range(2)]
        constants = [ir.define(each) for each in vectors]
        scales, sizes = (emit(_split, [each]) for each in vectors)
        seeds = emit(lambda: tuple(jnp.float32(i) for i in range(count)), [])
        place = 0
        formats = ir.attribute(ir.main(module), "ditto.arguments").split(",")
        for argument, fxp in zip(arguments, formats, strict=True):
            if fxp != "-" and ir.is_float(argument):
                if uses := ir.users(argument):
                    _redirect(uses, argument, emit(_rounded, [argument, scales[place]])[0])
                place += 1
        for number, op in enumerate(operations[:-1]):
            for index in _rounded_operands(op):
                op.operands[index] = emit(_rounded, [op.operands[index], scales[place]], op)[0]
                place += 1
            if _has_result(op):
                result, uses = op.results[0], ir.users(op.results[0])
                inputs = [result, scales[place], sizes[place], seeds[place]]
                _redirect(uses, result, emit(_disturbed, inputs, operations[number + 1])[0])
                place += 1
        assert place == count
        chosen = [op for op in ir.ops(block)[:-1] if op not in constants]
        outputs = list(ir.ops(block)[-1].operands)
        self._text = ir.extract(chosen, [*arguments, *vectors], outputs, "emulator")

    def run(
        self, assigned: ir.Module, errors: Mapping[Site, float], values: Sequence[Any]
    ) -> list[NDArray[Any]]:
        """The outputs in the formats of `assigned`; `errors` of kernels, and 1 ulp for truncated products."""
        grids = _grids(assigned)
        scales = np.array([2.0**fxp.fraction_bits if fxp else 0.0 for fxp, _ in grids], np.float32)
        sizes = np.array([_size(fxp, op, errors) for fxp, op in grids], np.float32)
        return ir.evaluate(self._text, [*values, scales, sizes])

    def rounded(
        self, assigned: ir.Module, places: Sequence[int], more_bits: int, values: Sequence[Any]
    ) -> list[NDArray[Any]]:
        """The outputs if only the results of the operations at `places` are rounded, to so many bits more."""
        operations = ir.ops(ir.body(ir.main(assigned)))
        chosen = {operations[place] for place in places}
        scales = [
            2.0 ** (fxp.fraction_bits + more_bits) if fxp and op in chosen else 0.0
            for fxp, op in _grids(assigned)
        ]
        none = np.zeros(len(scales), np.float32)
        return ir.evaluate(self._text, [*values, np.array(scales, np.float32), none])


def _split(vector: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(vector[i] for i in range(vector.size))


def _redirect(uses: Sequence[ir.Op], old: ir.Value, new: ir.Value) -> None:
    for user in uses:
        for index, operand in enumerate(list(user.operands)):
            if operand == old:
                user.operands[index] = new


def _rounded_operands(op: ir.Op) -> list[int]:
    """Which operands an operation with a format may take in another one."""
    if ir.attribute(op, "ditto.operands") is None:
        return []
    return [index for index, each in enumerate(op.operands) if ir.is_float(each)]


def _has_result(op: ir.Op) -> bool:
    return ir.attribute(op, "ditto.format") is not None and ir.is_float(op.results[0])


def _grids(module: ir.Module) -> list[tuple[Fxp | None, ir.Op | None]]:
    """(format, and for a result its operation) of every place in the order of the emulator's inputs."""
    found: list[tuple[Fxp | None, ir.Op | None]] = []
    texts = ir.attribute(ir.main(module), "ditto.arguments").split(",")
    for argument, text in zip(ir.arguments(module), texts, strict=True):
        if text != "-" and ir.is_float(argument):
            found.append((Fxp.parse(text), None))
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        wanted = (ir.attribute(op, "ditto.operands") or "").split(",")
        for index in _rounded_operands(op):
            found.append((None if wanted[index] == "-" else Fxp.parse(wanted[index]), None))
        if _has_result(op):
            found.append((Fxp.parse(ir.attribute(op, "ditto.format")), op))
    return found


def _size(fxp: Fxp | None, op: ir.Op | None, errors: Mapping[Site, float]) -> float:
    """How far a protocol may stray beyond the nearest value of its grid."""
    if op is None or fxp is None:
        return 0.0
    if ir.attribute(op, "ditto.natural") is not None:
        return fxp.ulp  # truncation errs by 1.5 ulp, rounding by half a one
    if ir.attribute(op, "ditto.kind") == "kernel" and op_name(op) in KERNEL_OPS:
        return errors.get((ir.attribute(op, "ditto.path"), KERNEL_OPS[op_name(op)][0]), 0.0)
    return 0.0
