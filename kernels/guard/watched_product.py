"""Decide how products of matrices are watched: which operand is summed, and how their wraps show.

All of that is public and the same in every request, so it is decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ditto_kernels.guard.random_sums import sizes
from ditto_kernels.guard.wraps import Shown, shown
from ditto_kernels.products.matmul import Dimensions, doubles
from ditto_kernels.products.multiply import symmetric
from ditto_kernels.protocol.kernel import Spec

MATRICES = ("matmul", "matmul_public")  # the kernels whose results are watched row by row
Attributes = Sequence[tuple[str, Any]]
Group = tuple[int, ...]  # numbers of products


@dataclass(frozen=True)
class Watched:
    """How one product is watched.

    dims: its dimensions. right: whether the right operand is summed.
    public_bits: the fraction bits of the summed operand if it is public.
    how: how its wraps show.
    batch, counted, summed, terms: the sizes of the batch, of the free dimension of the other operand, of that
        of the summed one, and of the sums that the product consists of.
    """

    dims: Dimensions
    right: bool
    public_bits: int | None
    how: Shown
    batch: int
    counted: int
    summed: int
    terms: int


def watched(
    x: Spec,
    w: Spec,
    y: Spec,
    *,
    dims: Dimensions,
    summed: str = "right",
    range: float | None = None,
    weight_fraction_bits: int | None = None,
    public_left: bool = False,
    within: float | None = None,
) -> Watched | None:
    """Return how to watch a product, or None where no wrap can be seen.

    x, w, y: operands and result of `matmul` or `matmul_public`, with its attributes.
    summed, within: see `guard_products`.
    """
    assert x.fxp is not None and y.fxp is not None
    ring = x.fxp.ring_bits
    bits = x.fxp.fraction_bits
    public = weight_fraction_bits is not None
    if weight_fraction_bits is not None:
        bits += weight_fraction_bits
    else:
        assert w.fxp is not None
        bits += w.fxp.fraction_bits
    try:
        double = not public and doubles(ring, bits, y.fxp, symmetric(range))
    except ValueError:  # the product is finished in another format and cast from there
        return None
    how = shown(ring, bits, y.fxp, range, double, within)
    if how is None:
        return None
    pair = (w, x) if public_left else (x, w)
    batch, left, right, terms = sizes(pair[0].shape, pair[1].shape, dims)
    counted, of = (left, right) if summed == "right" else (right, left)
    return Watched(dims, summed == "right", weight_fraction_bits, how, batch, counted, of, terms)


@dataclass(frozen=True)
class Item:
    """A product among the operands of a guard.

    one, other, y: the places of the summed operand, of the other one, and of the result.
    row: the place of what was added to each row of the result, or None.
    """

    watched: Watched
    one: int
    other: int
    y: int
    row: int | None

    @property
    def how(self) -> Shown:
        return self.watched.how


@dataclass(frozen=True)
class Part:
    """Elements that are lifted before they are summed.

    product: the number of the product. place: where the elements lie among the operands: it is a result, or a
    row that is subtracted from its sums. bound: the magnitude in ulp from which on they are refused.
    """

    product: int
    place: int
    bound: float


@dataclass(frozen=True)
class Products:
    """How a guard watches several products.

    items: the products. short: those whose sums lose bits together, in shares.
    alike: those that read the same other operand in the same way, so that it is read once.
    lifted: elements that are lifted together.
    """

    items: tuple[Item, ...]
    short: tuple[Group, ...]
    alike: tuple[Group, ...]
    lifted: tuple[tuple[Part, ...], ...]


@lru_cache(maxsize=128)
def planned(specs: tuple[Spec, ...], same: tuple[int, ...], products: tuple[Attributes, ...]) -> Products:
    """Decide how to watch products.

    specs: the operands of `guard_products`. same: for each operand, the place of the first one that is the
    same value. products: the attributes. Raises ValueError where wraps cannot be seen.
    """
    items = []
    for number, (start, stop, plain) in enumerate(each_product(products)):
        found = watched(*specs[start : start + 3], **plain)
        row = start + 3 if stop > start + 3 else None
        if found is None or (row is not None and not (found.right and found.how.lifted)):
            raise ValueError(f"the wraps of product {number} cannot be seen")
        first = found.right == plain.get("public_left", False)
        places = (start, start + 1) if first else (start + 1, start)
        items.append(Item(found, *places, start + 2, row))
    numbers = range(len(items))
    dropped = [each for each in numbers if items[each].watched.public_bits is None and items[each].how.shift]
    short = _grouped(dropped, lambda n: (items[n].how.ring, items[n].how.shift))

    def read(number: int) -> Hashable:
        each, how = items[number], items[number].watched
        return same[each.other], how.dims, how.right, how.public_bits is None

    parts = [part for number in numbers for part in _parts(items[number], number, specs)]
    rings = _grouped(range(len(parts)), lambda n: _ring(specs[parts[n].place]))
    lifted = tuple(tuple(parts[n] for n in group) for group in rings)
    return Products(tuple(items), short, _grouped(numbers, read), lifted)


def each_product(products: Sequence[Attributes]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the first operand of each product, the one behind its last, and its other attributes."""
    start = 0
    for attributes in products:
        plain = dict(attributes)
        stop = start + 3 + plain.pop("shifted", False)
        yield start, stop, plain
        start = stop


def _grouped(numbers: Sequence[int], key: Callable[[int], Hashable]) -> tuple[Group, ...]:
    """Return numbers that have the same key together, in the order of the first of each."""
    groups: dict[Hashable, list[int]] = {}
    for each in numbers:
        groups.setdefault(key(each), []).append(each)
    return tuple(map(tuple, groups.values()))


def _parts(item: Item, number: int, specs: Sequence[Spec]) -> Iterator[Part]:
    if item.how.lifted:
        yield Part(number, item.y, item.how.bound)
        if item.row is not None:
            fxp = specs[item.row].fxp
            assert fxp is not None
            yield Part(number, item.row, fxp.limit / fxp.ulp)


def _ring(spec: Spec) -> int:
    assert spec.fxp is not None
    return spec.fxp.ring_bits
