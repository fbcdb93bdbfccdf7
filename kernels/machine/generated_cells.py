"""The steps of `cells.py` by code that is generated for this processor, in one pass over memory each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from ditto_kernels.machine.cell_code import COUNTS, PARITIES, READ, UNARY, bits_module, cells_module
from ditto_kernels.machine.cells import Bytes, Numbers
from ditto_kernels.machine.compile import Code, Processor, addresses, compiled


class GeneratedCells:
    """The steps by code that is made when it is first needed."""

    def __init__(self, target: Processor) -> None:
        self._target = target

    def unary(self, numbers: Numbers, masks: Numbers) -> Numbers:
        result = np.empty_like(masks)
        self._cells(numbers, masks)[UNARY.name](*addresses(result, numbers, masks), numbers.size)
        return result

    def read(self, words: Numbers, numbers: Numbers, cells: int, leader: bool) -> tuple[Bytes, Bytes]:
        outside, wraps = np.zeros((2, -(-numbers.size // 8)), np.uint8)
        function = self._cells(numbers, words)[READ.name]
        function(*addresses(outside, wraps, words, numbers), numbers.size, cells, leader)
        return outside, wraps

    def counts(
        self, bits: Bytes, own: Bytes, mine: Bytes, other: Bytes, products: Bytes, leader: bool
    ) -> Bytes:
        result = np.empty_like(products)
        function = _bits(self._target).functions[COUNTS.name]
        function(*addresses(result, bits, own, mine, other, products), products.size, leader)
        return result

    def parities(self, bits: Bytes, stream: Bytes, windows: int) -> Bytes:
        result = np.zeros(windows, np.uint8)
        function = _bits(self._target).functions[PARITIES.name]
        function(*addresses(result, bits, stream), bits.size, windows)
        return result

    def _cells(self, numbers: Numbers, words: Numbers) -> Mapping[str, Callable[..., None]]:
        return _cells(self._target, numbers.dtype.itemsize, words.dtype.itemsize).functions


@functools.cache
def _cells(target: Processor, number: int, word: int) -> Code:
    """Return the code for numbers and words of so many bytes."""
    top = {1: 3, 2: 4}[word]
    return compiled(cells_module(8 * number, top, target.vector_bytes), (UNARY, READ), target)


@functools.cache
def _bits(target: Processor) -> Code:
    return compiled(bits_module(target.vector_bytes), (COUNTS, PARITIES), target)
