"""The steps of `cells.py` by code that is generated for this processor, in one pass over memory each."""

from __future__ import annotations

import functools

import numpy as np

from ditto_kernels.machine.cell_code import COUNTS, PARITIES, READ, UNARY, bits_module, cells_module
from ditto_kernels.machine.cells import TOP_BITS, Bytes, Numbers
from ditto_kernels.machine.compile import Code, Processor, addresses, compiled


class GeneratedCells:
    """The steps by code that is made when it is first needed. A caller holds the code while it runs.

    Two threads may make it at once, and one of both is dropped.
    """

    def __init__(self, target: Processor) -> None:
        self._target = target

    def unary(self, numbers: Numbers, masks: Numbers) -> None:
        _require((numbers, masks.size), (masks, numbers.size))
        code = self._cells(numbers, masks)
        code.functions[UNARY.name](*addresses(masks, numbers), numbers.size)

    def read(self, words: Numbers, numbers: Numbers, cells: int, leader: bool) -> tuple[Bytes, Bytes]:
        _require((words, numbers.size), (numbers, words.size))
        outside, wraps = np.zeros((2, -(-numbers.size // 8)), np.uint8)
        code, places = self._cells(numbers, words), addresses(outside, wraps, words, numbers)
        code.functions[READ.name](*places, numbers.size, cells, leader)
        return outside, wraps

    def counts(
        self, bits: Bytes, own: Bytes, mine: Bytes, other: Bytes, products: Bytes, leader: bool
    ) -> Bytes:
        packed = -(-products.size // 8)
        _require((products, 0), *((each, packed) for each in (bits, own, mine, other)))
        result = np.empty_like(products)
        code, places = _bits(self._target), addresses(result, bits, own, mine, other, products)
        code.functions[COUNTS.name](*places, products.size, leader)
        return result

    def parities(self, bits: Bytes, stream: Bytes, windows: int) -> Bytes:
        _require((bits, 0), (stream, bits.size + windows - 1))
        result = np.zeros(windows, np.uint8)
        code = _bits(self._target)
        code.functions[PARITIES.name](*addresses(result, bits, stream), bits.size, windows)
        return result

    def _cells(self, numbers: Numbers, words: Numbers) -> Code:
        return _cells(self._target, numbers.dtype.itemsize, words.dtype.itemsize)


def _require(*arrays: tuple[Numbers, int]) -> None:
    """Raise ValueError unless each array lies side by side in memory and has so many elements at least."""
    for array, least in arrays:  # The code reads as much memory as it is told.
        if not array.flags.c_contiguous or array.size < least:
            raise ValueError(f"a step on cells needs {least} elements side by side, not {array.shape}")


@functools.cache
def _cells(target: Processor, number: int, word: int) -> Code:
    """Return the code for numbers and words of so many bytes."""
    return compiled(cells_module(8 * number, TOP_BITS[word], target.vector_bytes), (UNARY, READ), target)


@functools.cache
def _bits(target: Processor) -> Code:
    return compiled(bits_module(target.vector_bytes), (COUNTS, PARITIES), target)
