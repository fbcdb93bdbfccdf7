"""The emulation of a program, compiled once for all formats.

`Lowered.emulate` runs a program with the roundings of one configuration, but a search tries hundreds of them.
The emulator rounds every operand and result to a grid that is an argument of the compiled program. To every
result it adds an error that is spread evenly over an interval. The interval's size is an argument too, and
stands for the error that kernels add beyond the rounding.
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
from ditto_spu.ops import record_of
from ditto_spu.ops.decision import Kind, read, read_entry
from ditto_spu.ops.op import name_of

Site = tuple[str, str]  # a path and a kernel


def _rounded(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Return x rounded to the grid of 1 / scale, or x itself if scale is 0."""
    grid = jnp.where(scale > 0, scale, 1.0).astype(x.dtype)
    return jnp.where(scale > 0, jnp.round(x * grid) / grid, x)


def _disturbed(x: jax.Array, scale: jax.Array, size: jax.Array, seed: jax.Array) -> jax.Array:
    """Return x with an error that looks uniform in [-size, size], on the grid of 1 / scale."""
    number = jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape)
    noise = jnp.modf(jnp.abs(jnp.sin(number * 12.9898 + seed * 78.233) * 43758.5453))[0]
    return _rounded(x + (size * (2 * noise - 1)).astype(x.dtype), scale)


class Emulator:
    """A program that runs with any formats that were assigned to it.

    module: the program with some formats. Modules for `run` and `rounded` come from the same program.
    """

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

        # These constants stand for arguments. `extract` turns them into arguments.
        vectors = [emit(partial(jnp.zeros, count, jnp.float32), [])[0] for _ in range(2)]
        constants = [ir.define(each) for each in vectors]
        scales, sizes = (emit(_split, [each]) for each in vectors)
        seeds = emit(lambda: tuple(jnp.float32(i) for i in range(count)), [])
        place = 0
        for argument, fxp in zip(arguments, read_entry(module).formats, strict=True):
            if fxp is not None and ir.is_float(argument):
                if uses := ir.users(argument):
                    ir.redirect(uses, argument, emit(_rounded, [argument, scales[place]])[0])
                place += 1
        for number, op in enumerate(operations[:-1]):
            for index in _rounded_operands(op):
                op.operands[index] = emit(_rounded, [op.operands[index], scales[place]], op)[0]
                place += 1
            if _has_result(op):
                result, uses = op.results[0], ir.users(op.results[0])
                inputs = [result, scales[place], sizes[place], seeds[place]]
                ir.redirect(uses, result, emit(_disturbed, inputs, operations[number + 1])[0])
                place += 1
        assert place == count
        chosen = [op for op in ir.ops(block)[:-1] if op not in constants]
        outputs = list(ir.ops(block)[-1].operands)
        self._text = ir.extract(chosen, [*arguments, *vectors], outputs, "emulator")

    def run(
        self, assigned: ir.Module, errors: Mapping[Site, float], values: Sequence[Any]
    ) -> list[NDArray[Any]]:
        """Return the outputs in the formats of `assigned`.

        Results of kernels get an error up to the size in `errors`, by path and kernel. Results of truncated
        products get an error of up to 1 ulp.

        values: the arrays of the program's arguments.
        """
        grids = _grids(assigned)
        scales = np.array([2.0**fxp.fraction_bits if fxp else 0.0 for fxp, _ in grids], np.float32)
        sizes = np.array([_size(fxp, op, errors) for fxp, op in grids], np.float32)
        return ir.evaluate(self._text, [*values, scales, sizes])

    def rounded(
        self, assigned: ir.Module, places: Sequence[int], more_bits: int, values: Sequence[Any]
    ) -> list[NDArray[Any]]:
        """Return the outputs if only the results of the operations at `places` are rounded.

        They are rounded to `more_bits` fraction bits more than `assigned` gives them.
        """
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


def _rounded_operands(op: ir.Op) -> list[int]:
    """Return the numbers of the operands that an operation with a format may take in another format."""
    decision = read(op)
    if decision is None or decision.operands is None:
        return []
    return [index for index, each in enumerate(op.operands) if ir.is_float(each)]


def _has_result(op: ir.Op) -> bool:
    return read(op) is not None and ir.is_float(op.results[0])


def _grids(module: ir.Module) -> list[tuple[Fxp | None, ir.Op | None]]:
    """Return every place that is rounded, in the order of the emulator's inputs.

    A place is a format, and for a result also its operation.
    """
    found: list[tuple[Fxp | None, ir.Op | None]] = []
    for argument, fxp in zip(ir.arguments(module), read_entry(module).formats, strict=True):
        if fxp is not None and ir.is_float(argument):
            found.append((fxp, None))
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        decision = read(op)
        if decision is None:
            continue
        for index in _rounded_operands(op):
            found.append((decision.operands[index] if decision.operands else None, None))
        if _has_result(op):
            found.append((decision.format, op))
    return found


def _size(fxp: Fxp | None, op: ir.Op | None, errors: Mapping[Site, float]) -> float:
    """Return how far a protocol may stray beyond the nearest value of its grid."""
    if op is None or fxp is None:
        return 0.0
    decision = read(op)
    if decision is None:
        return 0.0
    if decision.natural is not None:
        return fxp.ulp  # truncation errs by up to 1.5 ulp, rounding by half an ulp
    record = record_of(op, decision.kind)
    if decision.kind is Kind.KERNEL and record is not None:
        return errors.get((decision.path, record.kernels[name_of(op)]), 0.0)
    return 0.0
