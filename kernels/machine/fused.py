"""A fused step is a local function of ring elements that runs as one compiled loop.

The function is written once, with operators on arrays. For many elements it is compiled into a loop that
reads every operand and writes every result once. For few elements, and where no code can be made, numpy runs
it. Both give the same bits.
"""

from __future__ import annotations

import ctypes
import inspect
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine import tuning
from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.fields import FIELD, elements_are_found
from ditto_kernels.machine.loop_code import LOOP, Loop, Operand, compiled_loop
from ditto_kernels.values.absent import Absent

_COMPILING = threading.Lock()  # Parties of one process ask at once, and a loop is compiled once.
_KEPT_CALLS = 1 << 10  # of a step, for so many shapes of its operands


class _Call(NamedTuple):
    """What stays the same in all calls of a step with operands of the same shapes and strides."""

    loop: Loop | None
    run: Callable[[Any], None] | None
    copies: tuple[
        tuple[int, bool, tuple[int, ...]], ...
    ]  # the operands that the loop cannot read: see `_spread`
    results: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    sizes: tuple[int, int]  # of the outer and of the inner axis
    strides: tuple[tuple[int, int], ...]  # by array, of the outer axis and of rows
    block: Any  # the type of the block of a loop's arguments


class FusedStep:
    """A function of arrays that runs as one loop. `fused` makes it."""

    def __init__(self, function: Callable[..., Any], rows: Sequence[str], tables: Sequence[str]) -> None:
        self.plain = function
        names = [*inspect.signature(function).parameters]
        self._rows, self._tables = ([names.index(each) for each in group] for group in (rows, tables))
        self._loops: dict[Any, Loop | None] = {}
        self._calls: dict[Any, _Call] = {}
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __call__(self, *operands: Any, **public: Any) -> Any:
        if Absent in map(type, operands):
            return self.by_numpy(*operands, **public)
        # Steps that read by rows take many calls of numpy.
        few = tuning.LOOP_ELEMENTS if self._rows else tuning.NUMPY_ELEMENTS
        if max([each.size for each in operands]) <= few:
            return self.by_numpy(*operands, **public)
        arrays = [each if type(each) is np.ndarray else np.asarray(each) for each in operands]
        key = (*[(each.shape, each.strides, each.dtype) for each in arrays], *public.values())
        call = self._calls.get(key)
        if call is None:
            call = self._prepare(key, arrays, public)
        if call.run is None:
            return self.by_numpy(*operands, **public)
        for place, by_rows, shape in call.copies:
            arrays[place] = np.ascontiguousarray(_spread(arrays[place], by_rows, shape))
        results = [np.empty(*each) for each in call.results]
        block = [*call.sizes]
        for array, strides in zip(arrays + results, call.strides, strict=True):
            block += (id(array) + FIELD, *strides)
        call.run(call.block(*block))
        assert call.loop is not None
        return results[0] if call.loop.single else tuple(results)

    def by_numpy(self, *operands: Any, **public: Any) -> Any:
        """Run the step as numpy does it. A list of results becomes one array with an axis in front."""
        single = self._single(operands)
        if single:  # Numpy would compute single elements in a wider ring.
            operands = tuple(
                each if place in self._tables else each.reshape((*each.shape, 1))
                for place, each in enumerate(operands)
            )
        made = self.plain(*operands, **public)
        results = [_joined(each) for each in (made if isinstance(made, tuple) else (made,))]
        if single:
            results = [each.reshape(each.shape[:-1]) for each in results]
        return tuple(results) if isinstance(made, tuple) else results[0]

    def _single(self, operands: Sequence[Any]) -> bool:
        """Return whether the operands have no axis but that of rows."""
        for place, each in enumerate(operands):
            if len(each.shape) > (place in self._rows) and place not in self._tables:
                return False
        return True

    def _prepare(self, key: Any, arrays: Sequence[NDArray[Any]], public: Mapping[str, Any]) -> _Call:
        """Return the call for operands of these shapes, and keep it."""
        shape, sizes, placed = _laid_out(arrays, self._rows, self._tables)
        loop = self._loop(tuple([each.kind for each in placed]), public)
        if loop is None or sizes[1] < loop.lanes:
            call = _Call(None, None, (), (), sizes, (), None)
        else:
            copies = [
                (place, place in self._rows, each.copied)
                for place, each in enumerate(placed)
                if each.copied is not None
            ]
            strides = [(each.outer, each.row) for each in placed]
            strides += [(sizes[1], sizes[0] * sizes[1])] * len(loop.results)
            shapes = [
                (shape if each.rows is None else (each.rows, *shape), each.dtype) for each in loop.results
            ]
            block = ctypes.c_int64 * (len(sizes) + 3 * len(strides))
            call = _Call(
                loop, loop.code.functions[LOOP.name], (*copies,), (*shapes,), sizes, (*strides,), block
            )
        if len(self._calls) >= _KEPT_CALLS:
            self._calls.clear()
        self._calls[key] = call
        return call

    def _loop(self, kinds: tuple[Operand, ...], public: Mapping[str, Any]) -> Loop | None:
        key = (kinds, *public.values())
        with _COMPILING:
            if key not in self._loops:
                self._loops[key] = _compile(self.plain, kinds, public)
        return self._loops[key]


def fused(
    *, rows: Sequence[str] = (), tables: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], FusedStep]:
    """Decorate a local step that is a function of arrays, element by element.

    Its operands are broadcast against each other. `rows` names the operands whose first axis the step reads
    by number, and `tables` those that it reads by `entries` alone. Public numbers are keywords.
    The step returns an array, a list of arrays of one type, which become an array with an axis in
    front, or a tuple of these. Types are cast by `astype` alone.

    If an operand is absent, so are the results.
    """
    return lambda function: FusedStep(function, rows, tables)


def _joined(made: Any) -> Any:
    return np.stack(made) if isinstance(made, list) else made


def _compile(step: Callable[..., Any], kinds: Sequence[Operand], public: Mapping[str, Any]) -> Loop | None:
    """Return the loop of a step, or None where numpy has to run it."""
    processor = backend().target
    if processor is None or not elements_are_found():
        return None
    try:
        return compiled_loop(step, kinds, public, processor)
    except RuntimeError:
        return None


class _Placed(NamedTuple):
    """An operand as a loop finds it in memory. Strides count elements. `copied` is the shape of a copy."""

    kind: Operand
    outer: int
    row: int
    copied: tuple[int, ...] | None = None


def _laid_out(
    arrays: Sequence[NDArray[Any]], rows: Sequence[int], tables: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, int], list[_Placed]]:
    """Return (shape of the results, sizes of the outer and of the inner axis, operands)."""
    read = [place for place in range(len(arrays)) if place not in tables]
    shapes = [arrays[place].shape[place in rows :] for place in read]
    shape = np.broadcast_shapes(*shapes)
    simple = all(
        each == shape and arrays[place].flags.c_contiguous for place, each in zip(read, shapes, strict=True)
    )
    size = math.prod(shape)
    inner = size if simple or not shape or shape[-1] < tuning.LOOP_ELEMENTS else shape[-1]
    sizes = (size // max(inner, 1), inner)
    return (
        shape,
        sizes,
        [
            _table(each, place in rows) if place in tables else _operand(each, place in rows, shape, sizes)
            for place, each in enumerate(arrays)
        ],
    )


def _table(array: NDArray[Any], by_rows: bool) -> _Placed:
    copied = None if array.flags.c_contiguous else array.shape
    *rows, size = array.shape
    if not size:
        raise ValueError("a table of a fused step has no entries")
    return _Placed(Operand(array.dtype, "table", rows[0] if by_rows else None, size), 0, size, copied)


def _operand(array: NDArray[Any], by_rows: bool, shape: tuple[int, ...], sizes: tuple[int, int]) -> _Placed:
    """Place an operand whose elements lie at equal distances along both axes, or a copy of it."""
    (outer, inner), rows = sizes, len(array) if by_rows else None
    wanted = shape if rows is None else (rows, *shape)
    spread = _spread(array, by_rows, wanted)
    size, strides = array.itemsize, spread.strides[by_rows:]
    row = spread.strides[0] // size if by_rows else 0
    if array.size == 1 and not by_rows:
        return _Placed(Operand(array.dtype, "one", rows), 0, 0)
    if spread.flags.c_contiguous and array.shape == wanted:
        return _Placed(Operand(array.dtype, "elements", rows), inner, row)
    regular = inner == shape[-1] and not any(each % size for each in spread.strides)
    regular &= all(strides[axis] == strides[axis + 1] * shape[axis + 1] for axis in range(len(strides) - 2))
    distance = strides[-2] // size if len(strides) > 1 else 0
    if regular and strides[-1] == size:
        return _Placed(Operand(array.dtype, "elements", rows), distance, row)
    if regular and not strides[-1] and not by_rows:
        return _Placed(Operand(array.dtype, "one", rows), distance, row)
    return _Placed(Operand(array.dtype, "elements", rows), inner, inner * outer, wanted)


def _spread(array: NDArray[Any], by_rows: bool, shape: tuple[int, ...]) -> NDArray[Any]:
    """Broadcast an operand. The axis of rows stays in front."""
    if by_rows:
        array = array.reshape(len(array), *(1,) * (len(shape) - array.ndim), *array.shape[1:])
    return np.broadcast_to(array, shape)
