"""An absent array has a shape and a type but no numbers: the party holds no share of the value.

A dealer's share of an additive sharing is absent. So is every operand while a cost is derived, and while a
kernel is dealt for before its inputs exist. Arithmetic and layout pass through. An operation that would need
a number raises TypeError. So a protocol that runs on absent operands sends messages that depend on shapes
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NoReturn, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Shape = tuple[int, ...]
_BYTE = bytes(1)


def absent(shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an absent array. To the type checker it is any array."""
    return cast("NDArray[Any]", Absent(shape, dtype))


def is_absent(value: object) -> bool:
    """Return whether an array has no numbers."""
    return type(value) is Absent


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Do `np.ascontiguousarray`, which numpy does not dispatch to absent arrays."""
    return array if is_absent(array) else np.ascontiguousarray(array)


class Absent(NDArrayOperatorsMixin):
    """An array of a shape and a type, without numbers. `absent` makes one."""

    __slots__ = ("dtype", "shape")
    __hash__ = None  # type: ignore[assignment]  # The operator == compares elements, as it does for arrays.

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"Absent({self.shape}, {self.dtype})"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __iter__(self) -> Iterator[Absent]:
        for _ in range(len(self)):
            yield Absent(self.shape[1:], self.dtype)

    def reshape(self, *shape: Any) -> Absent:
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return Absent(_reshaped(self.shape, tuple(wanted)), self.dtype)

    def ravel(self) -> Absent:
        return Absent((self.size,), self.dtype)

    def copy(self, order: str = "C") -> Absent:
        return self

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> Absent:
        return Absent(self.shape, np.dtype(dtype))

    def view(self, dtype: Any) -> Absent:
        kind = np.dtype(dtype)
        if kind.itemsize == self.dtype.itemsize:
            return Absent(self.shape, kind)
        last, rest = divmod(self.shape[-1] * self.dtype.itemsize, kind.itemsize)
        if rest:
            raise ValueError(f"{self} cannot be viewed as {kind}")
        return Absent((*self.shape[:-1], last), kind)

    def transpose(self, *axes: Any) -> Absent:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        places = tuple(order) if order else tuple(reversed(range(self.ndim)))
        return Absent(tuple(self.shape[axis] for axis in places), self.dtype)

    def swapaxes(self, first: int, second: int) -> Absent:
        shape = list(self.shape)
        shape[first], shape[second] = shape[second], shape[first]
        return Absent(tuple(shape), self.dtype)

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Absent:
        return _reduced(np.add, self, axis, dtype, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Absent:
        return _reduced(np.logical_or, self, axis, None, keepdims)

    def __getitem__(self, key: Any) -> Absent:
        if type(key) is int and self.shape and -self.shape[0] <= key < self.shape[0]:
            return Absent(self.shape[1:], self.dtype)
        return Absent(_stand_in(self.shape)[_places(key)].shape, self.dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        target = _stand_in(self.shape)[_places(key)].shape
        _broadcast((target, np.shape(value) if not is_absent(value) else value.shape))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        targets = options.pop("out", None)
        if method == "__call__" and ufunc.signature is None and not options:
            shape = _broadcast(tuple([_shape(each) for each in inputs]))
            kinds = _call_types(ufunc, *map(_kind, inputs))
        elif method == "outer":
            shape = _shape(inputs[0]) + _shape(inputs[1])
            kinds = _call_types(ufunc, *map(_kind, inputs))
        elif method == "reduce" and type(inputs[0]) is Absent:
            axis, dtype = options.get("axis", 0), options.get("dtype")
            return _reduced(ufunc, inputs[0], axis, dtype, options.get("keepdims", False))
        elif method == "reduceat" and type(inputs[0]) is Absent:
            places = list(inputs[0].shape)
            places[options.get("axis", 0)] = len(inputs[1])
            return Absent(tuple(places), inputs[0].dtype)
        else:
            asked = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
            raise TypeError(f"{asked} has no rule for absent arrays: call it in a local step")
        if targets is not None:
            return Absent(targets[0].shape, targets[0].dtype)
        results = tuple(Absent(shape, kind) for kind in kinds)
        return results if len(results) > 1 else results[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = _RULES.get(function)
        if rule is None:
            raise TypeError(
                f"numpy.{function.__name__} has no rule for absent arrays: call it in a local step"
            )
        return rule(*args, **kwargs)

    def _refused(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this array is absent, it has a shape and no numbers: no protocol depends on data")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = __array__ = item = tolist = _refused


def _shape(value: Any) -> Shape:
    return value.shape if hasattr(value, "shape") else np.shape(value)


@lru_cache(maxsize=1 << 12)
def _broadcast(shapes: tuple[Shape, ...]) -> Shape:
    return np.broadcast_shapes(*shapes)


@lru_cache(maxsize=1 << 12)
def _reshaped(shape: Shape, wanted: Shape) -> Shape:
    return _stand_in(shape).reshape(wanted).shape


def _stand_in(shape: Shape) -> NDArray[Any]:
    """Return an array of that shape on a single byte."""
    return np.ndarray(shape, bool, _BYTE, strides=(0,) * len(shape))


def _places(key: Any) -> Any:
    """Return a key with zeros in the place of absent indices."""
    if type(key) is tuple:
        return tuple(map(_places, key))
    if type(key) is not Absent:
        return key
    if key.dtype.kind not in "iu":
        raise TypeError("the shape of a choice by an absent mask depends on data: call it in a local step")
    return np.zeros(key.shape, np.intp)


def _kind(value: Any) -> Any:
    """Return all that numpy's promotion uses of an operand.

    It is a number, or a type with or without dimensions.
    """
    if not hasattr(value, "dtype"):
        return type(value), value
    return value.dtype if value.shape else (value.dtype, 1)


def _sample(kind: Any) -> Any:
    """Return an operand of that kind."""
    if type(kind) is not tuple:
        return np.ones(1, kind)
    return kind[1] if isinstance(kind[0], type) else np.ones((), kind[0])


@lru_cache(maxsize=1 << 12)
def _call_types(function: Any, *kinds: Any) -> tuple[np.dtype[Any], ...]:
    """Return the types of a function's results, as numpy has them."""
    with np.errstate(all="ignore"):
        results = function(*map(_sample, kinds))
    return tuple(each.dtype for each in (results if type(results) is tuple else (results,)))


def _reduced(ufunc: np.ufunc, array: Absent, axis: Any, dtype: Any, keepdims: bool) -> Absent:
    axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {each % array.ndim for each in axes}
    kept = [1 if place in gone else size for place, size in enumerate(array.shape)]
    shape = [size for place, size in enumerate(kept) if keepdims or place not in gone]
    kind = np.dtype(dtype) if dtype else ufunc.reduce(np.ones(1, array.dtype)).dtype
    return Absent(tuple(shape), kind)


def _like(array: Any, dtype: Any = None) -> Absent:
    return Absent(_shape(array), np.dtype(dtype) if dtype else array.dtype)


def _full_like(array: Any, value: Any, dtype: Any = None) -> Absent:
    return _like(array, dtype)


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Absent:
    shape, total = list(_shape(arrays[0])), sum(_shape(each)[axis] for each in arrays)
    shape[axis] = total
    return Absent(tuple(shape), np.result_type(*[each.dtype for each in arrays]))


def _stack(arrays: Sequence[Any], axis: int = 0) -> Absent:
    shape = list(_shape(arrays[0]))
    shape.insert(axis % (len(shape) + 1), len(arrays))
    return Absent(tuple(shape), np.result_type(*[each.dtype for each in arrays]))


def _where(condition: Any, x: Any, y: Any) -> Absent:
    shape = _broadcast((_shape(condition), _shape(x), _shape(y)))
    return Absent(shape, *_call_types(_chosen, _kind(x), _kind(y)))


def _chosen(x: Any, y: Any) -> NDArray[Any]:
    return np.where(True, x, y)


def _take(array: Any, indices: Any, axis: int) -> Absent:
    shape = _shape(array)
    axis %= len(shape)
    return Absent((*shape[:axis], *_shape(indices), *shape[axis + 1 :]), array.dtype)


def _moveaxis(array: Any, source: int, target: int) -> Absent:
    shape = list(_shape(array))
    shape.insert(target % len(shape), shape.pop(source))
    return Absent(tuple(shape), array.dtype)


# This list is literal on purpose: protocols call these functions on shares. Others belong in local steps.
_RULES: dict[Any, Callable[..., Any]] = {
    np.broadcast_to: lambda array, shape: Absent(_broadcast((array.shape, tuple(shape))), array.dtype),
    np.concatenate: _concatenate,
    np.copy: lambda array, **_: array,
    np.full_like: _full_like,
    np.moveaxis: _moveaxis,
    np.ones_like: _like,
    np.shape: lambda array: array.shape,
    np.stack: _stack,
    np.take: _take,
    np.transpose: lambda array, axes=(): array.transpose(*axes),
    np.where: _where,
    np.zeros_like: _like,
}
