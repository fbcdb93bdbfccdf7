"""Local products by code that is generated for this processor, on all its cores."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine import tuning
from ditto_kernels.machine.compile import Code, Processor, addresses, compiled
from ditto_kernels.machine.generated_cells import GeneratedCells
from ditto_kernels.machine.operands import Combination, Prepared
from ditto_kernels.machine.pack_code import PACK_LEFT, PACK_RIGHT
from ditto_kernels.machine.product_code import MULTIPLY, module
from ditto_kernels.machine.sum_code import ALONG_ROWS, ALONG_TERMS, sums_module
from ditto_kernels.machine.tiles import Tiles


class Generated:
    """The back end that multiplies int16, int32 and int64 at the processor's speed. Ring 8 takes int16."""

    fast_integers = True
    least_terms = tuning.GENERATED_MATMUL_TERMS

    def __init__(self, target: Processor) -> None:
        self.target: Processor | None = target
        self._processor = target
        self.cells = GeneratedCells(target)

    def prepare(self, operand: Combination, left: bool) -> Prepared:
        dtype = operand.x.dtype
        if operand.q and (operand.x.shape, dtype) != (operand.y.shape, operand.y.dtype):
            raise ValueError("the two arrays of an operand are not alike")  # the code relies on it
        x, y = (_strided(each) for each in (operand.x, operand.y if operand.q else operand.x))
        batch, free, terms = x.shape
        tiles, code = _products(self._processor, x.dtype)
        rows = free if left else -(-free // tiles.width) * tiles.width
        packed = np.empty(batch * rows * terms, x.dtype)
        strides = [stride // x.dtype.itemsize for each in (x, y) for stride in each.strides]
        pack = code.functions[(PACK_LEFT if left else PACK_RIGHT).name]
        pack(*addresses(packed, x, y), batch, free, terms, *strides, operand.p, operand.q)
        return Prepared((batch, free, terms), dtype, packed)

    def multiply(self, pairs: Sequence[tuple[Prepared, Prepared]]) -> NDArray[Any]:
        left, right = pairs[0]
        (batch, m, _), (_, n, _) = left.shape, right.shape
        for a, b in pairs:  # the code reads as much memory as these shapes say
            wanted = (batch, m, a.shape[2]), (batch, n, a.shape[2])
            if (a.shape, b.shape) != wanted or {a.form.dtype, b.form.dtype} != {left.form.dtype}:
                raise ValueError(f"operands of shapes {a.shape} and {b.shape} have no product here")
        total = np.zeros((batch, m, n), left.form.dtype)
        tiles, code = _products(self._processor, total.dtype)
        multiply = code.functions[MULTIPLY.name]

        def some(first: int, last: int) -> None:
            for a, b in pairs:
                multiply(*addresses(a.form, b.form, total), m, n, a.shape[2], first, last)

        units = batch * -(-m // tiles.rows) * -(-n // tiles.width)
        terms = total.size * sum(each.shape[2] for each, _ in pairs)
        parts = max(1, min(units, _processors(), terms // tuning.TERMS_PER_THREAD))
        bounds = [units * each // parts for each in range(parts + 1)]
        others = [_workers(os.getpid()).submit(some, *bounds[each : each + 2]) for each in range(1, parts)]
        some(*bounds[:2])
        for each in others:
            each.result()
        return total.astype(left.dtype, copy=False)

    def sums(self, values: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
        call = _sums_call(
            self._processor, values.shape, values.strides, values.dtype, factors.shape, factors.dtype
        )
        total = np.zeros(call.shape, factors.dtype)
        if values.size:
            read, own = values.copy() if call.copied else values, np.ascontiguousarray(factors)
            call.code.functions[call.symbol](*addresses(total, read, own), *call.sizes)
        return total


def _strided(values: NDArray[Any]) -> NDArray[Any]:
    """Return the elements in a type that has products, at distances of whole elements."""
    array = np.asarray(values)
    if array.dtype.itemsize == 1:
        return array.astype(np.int16)
    if any(stride % array.dtype.itemsize for stride in array.strides):
        return array.copy()
    return array


@functools.cache
def _products(target: Processor, dtype: np.dtype[Any]) -> tuple[Tiles, Code]:
    """Return the tiles of a ring, and the code that multiplies in it."""
    size = dtype.itemsize
    # Sums of 8 rows and 2 vectors leave half of 32 registers free, those of 4 rows and 3 vectors 4 of 16.
    vectors, heights = (2, (8, 4, 2, 1)) if target.registers >= 32 else (3, (4, 2, 1))
    tiles = Tiles(8 * size, target.vector_bytes // size, vectors, heights)
    return tiles, compiled(module(tiles), (MULTIPLY, PACK_LEFT, PACK_RIGHT), target)


class _SumsCall(NamedTuple):
    """What stays the same in all sums of arrays of the same shapes and strides.

    code, symbol: where the function is, which needs its code to live. copied: whether it cannot read the
    elements where they lie. shape: that of the sums. sizes: what it is told behind the addresses.
    """

    code: Code
    symbol: str
    copied: bool
    shape: tuple[int, int, int]
    sizes: tuple[int, ...]


@functools.lru_cache(maxsize=1 << 10)
def _sums_call(
    target: Processor,
    shape: tuple[int, int, int],
    strides: tuple[int, int, int],
    dtype: np.dtype[Any],
    factors: tuple[int, int, int],
    ring: np.dtype[Any],
) -> _SumsCall:
    """Lay out sums. Raises ValueError if values of this shape and factors of that one have none."""
    (batch, rows, terms), (entries, columns, _), size = shape, factors, dtype.itemsize
    if entries not in (1, batch) or factors[2] != terms:  # as in `multiply`
        raise ValueError(f"values of shape {shape} and factors of {factors} have no sums")
    by_rows = strides[1] == size and strides[2] % size == 0
    copied = bool(strides[0] % size) or not (by_rows or (strides[2] == size and strides[1] % size == 0))
    if copied:
        by_rows, strides = False, (rows * terms * size, terms * size, size)
    symbol, step = (ALONG_ROWS, strides[2]) if by_rows else (ALONG_TERMS, strides[1])
    code = _sums(target, size, ring.itemsize)
    apart = columns * terms if entries > 1 else 0
    sizes = (batch, rows, terms, columns, strides[0] // size, step // size, apart)
    return _SumsCall(code, symbol.name, copied, (batch, columns, rows), sizes)


@functools.cache
def _sums(target: Processor, source: int, ring: int) -> Code:
    """Return the code that sums elements of so many bytes in a ring of so many."""
    text = sums_module(8 * source, 8 * ring, target.vector_bytes // ring)
    return compiled(text, (ALONG_TERMS, ALONG_ROWS), target)


def _processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _workers(process: int) -> ThreadPoolExecutor:
    """Return the threads that share products. A process that was forked has none of its parent's threads."""
    return ThreadPoolExecutor(_processors(), thread_name_prefix="ditto-products")
