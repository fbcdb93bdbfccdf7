"""Write LLVM IR that packs the operands of products: sums of two arrays, in the panels that tiles read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ditto_kernels.machine.ir_text import Function, Index, Symbol
from ditto_kernels.machine.tiles import Tiles

PACK_LEFT = Symbol("pack_left", 3, 11)
PACK_RIGHT = Symbol("pack_right", 3, 11)

_PARAMETERS = [
    *(("ptr", name) for name in ("target", "x", "y")),
    *(("i64", name) for name in ("batch", "free", "terms")),
    *(("i64", name) for name in ("x_batch", "x_free", "x_term", "y_batch", "y_free", "y_term", "p", "q")),
]
_Pair = tuple[str, str]  # the addresses of one place in x and in y


class _Sources:
    """The two arrays of p x + q y while they are packed. Strides count elements."""

    def __init__(self, f: Function, t: Tiles) -> None:
        self.f, self.t = f, t
        change = "trunc" if t.bits < 64 else "bitcast"
        self.factors = [f.value(f"{change} i64 %{name} to {t.element}") for name in "pq"]
        self.spread: dict[str, list[str]] = {}

    def at(self, pair: _Pair, axis: str, index: Index) -> _Pair:
        """Return the addresses of both arrays so many places further along an axis."""
        x, y = (
            self.f.at(self.t.element, pointer, self.f.multiply(f"%{name}_{axis}", index))
            for name, pointer in zip("xy", pair, strict=True)
        )
        return x, y

    def both_contiguous(self, axis: str) -> str:
        """Return whether neighbours along an axis lie side by side in both arrays."""
        x, y = (self.f.value(f"icmp eq i64 %{name}_{axis}, 1") for name in "xy")
        return self.f.value(f"and i1 {x}, {y}")

    def prepare_vectors(self, kind: str, lanes: int) -> None:
        """Make the factors of vectors, before any loop that combines such vectors."""
        self.spread[kind] = [self.f.spread(self.t.element, factor, lanes) for factor in self.factors]

    def combined(self, pair: _Pair, kind: str) -> str:
        """Return p x + q y for an element, or for a vector of elements that lie side by side."""
        factors = self.spread.get(kind, self.factors)
        terms = [
            self.f.value(f"mul {kind} {factor}, {self.f.load(kind, pointer)}")
            for factor, pointer in zip(factors, pair, strict=True)
        ]
        return self.f.value(f"add {kind} {terms[0]}, {terms[1]}")


def pack_left(t: Tiles) -> Function:
    """Write panels of p x + q y, which have the shape (terms, height), one after the other."""
    f = Function(PACK_LEFT.name, _PARAMETERS)
    sources, top = _Sources(f, t), t.heights[0]
    vector = f"<{top} x {t.element}>"
    sources.prepare_vectors(vector, top)
    rows_inside = sources.both_contiguous("term")
    with f.loop(0, "%batch") as entry:
        of_entry = sources.at(("%x", "%y"), "batch", entry)
        target = f.at(t.element, "%target", f.multiply(entry, f.multiply("%free", "%terms")))
        following = "0"
        for height in t.heights:
            with f.loop(following, f.subtract("%free", height - 1), height) as at:
                panel = f.at(t.element, target, f.multiply(at, "%terms"))
                of_panel = sources.at(of_entry, "free", at)
                rows = [sources.at(of_panel, "free", row) for row in range(height)]
                first = "0"
                if height == top:
                    first = f.multiple_below(f.choose(rows_inside, "%terms", 0), top)
                    with f.loop(0, first, top) as term:
                        _turned(
                            f,
                            sources,
                            [sources.at(row, "term", term) for row in rows],
                            vector,
                            [
                                f.at(t.element, panel, f.multiply(f.add(term, each), top))
                                for each in range(top)
                            ],
                        )
                with f.loop(first, "%terms") as term:
                    place = f.at(t.element, panel, f.multiply(term, height))
                    for number, row in enumerate(rows):
                        made = sources.combined(sources.at(row, "term", term), t.element)
                        f.store(t.element, made, f.at(t.element, place, number))
            following = at
    return f


def pack_right(t: Tiles) -> Function:
    """Write panels of p x + q y, which have the shape (terms, width). The last one is filled with zeros."""
    f = Function(PACK_RIGHT.name, _PARAMETERS)
    sources, side = _Sources(f, t), math.gcd(t.heights[0], t.width)
    square = f"<{side} x {t.element}>"
    sources.prepare_vectors(square, side)
    sources.prepare_vectors(t.vector, t.lanes)
    columns_inside, rows_inside = sources.both_contiguous("free"), sources.both_contiguous("term")
    size = f.multiply("%terms", t.width)
    panels, _ = f.divide(f.add("%free", t.width - 1), t.width)
    with f.loop(0, "%batch") as entry, f.loop(0, panels) as panel:
        target = f.at(t.element, "%target", f.multiply(f.add(f.multiply(entry, panels), panel), size))
        column = f.multiply(panel, t.width)
        count = f.least(t.width, f.subtract("%free", column))
        whole = f.value(f"icmp eq i64 {count}, {t.width}")
        of_panel = sources.at(sources.at(("%x", "%y"), "batch", entry), "free", column)
        by_rows = f.choose(f.value(f"and i1 {whole}, {columns_inside}"), "%terms", 0)
        with f.loop(0, by_rows) as term:
            place = f.at(t.element, target, f.multiply(term, t.width))
            of_term = sources.at(of_panel, "term", term)
            for each in range(0, t.width, t.lanes):
                made = sources.combined(sources.at(of_term, "free", each), t.vector)
                f.store(t.vector, made, f.at(t.element, place, each))
        squares = f.choose(f.value(f"and i1 {whole}, {rows_inside}"), "%terms", by_rows)
        by_squares = f.add(by_rows, f.multiple_below(f.subtract(squares, by_rows), side))
        with f.loop(by_rows, by_squares, side) as term, f.loop(0, t.width, side) as j:
            rows = [
                sources.at(sources.at(of_panel, "free", f.add(j, each)), "term", term) for each in range(side)
            ]
            places = [
                f.at(t.element, target, f.add(f.multiply(f.add(term, each), t.width), j))
                for each in range(side)
            ]
            _turned(f, sources, rows, square, places)
        with f.loop(by_squares, "%terms") as term:
            place = f.at(t.element, target, f.multiply(term, t.width))
            of_term = sources.at(of_panel, "term", term)
            with f.loop(0, count) as j:
                made = sources.combined(sources.at(of_term, "free", j), t.element)
                f.store(t.element, made, f.at(t.element, place, j))
            with f.loop(count, t.width) as j:
                f.store(t.element, "0", f.at(t.element, place, j))
    return f


def _turned(f: Function, sources: _Sources, rows: Sequence[_Pair], kind: str, places: Sequence[str]) -> None:
    """Read as many rows as a vector has elements, and write the columns of that square to the places."""
    vectors = [sources.combined(row, kind) for row in rows]
    side, step = len(vectors), 1
    while step < side:  # Swap the squares of that side beside the diagonal.
        for row in (each for each in range(side) if not each & step):
            upper, lower = vectors[row], vectors[row + step]
            kept = [j if not j & step else side + j - step for j in range(side)]
            moved = [j + step if not j & step else side + j for j in range(side)]
            vectors[row], vectors[row + step] = (
                f.shuffle(kind, upper, lower, each) for each in (kept, moved)
            )
        step *= 2
    for vector, place in zip(vectors, places, strict=True):
        f.store(kind, vector, place)
