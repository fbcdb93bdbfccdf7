"""Write LLVM IR that multiplies matrices of ring elements, and that packs them for it.

The left operand is packed in panels of a few rows, the right one in panels of a few vectors of columns. A
tile multiplies two panels and keeps its sums in registers. Tails of rows have lower tiles, and tails of
columns are computed beside the result and copied.
"""

from __future__ import annotations

from dataclasses import dataclass

from ditto_kernels.machine.ir_text import Function, Symbol


@dataclass(frozen=True)
class Tiles:
    """The sizes of tiles in one ring, and of the blocks that stay in the caches.

    lanes: elements of a vector. vectors: vectors of a panel of the right operand. heights: rows of panels of
    the left operand, from high to low, down to 1. terms: summed in one block. rows: of one block, a multiple
    of the highest panel, so that blocks begin where panels do.
    """

    bits: int
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    terms: int = 512
    rows: int = 128

    @property
    def width(self) -> int:
        """The number of columns of a tile."""
        return self.lanes * self.vectors

    @property
    def element(self) -> str:
        return f"i{self.bits}"

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x i{self.bits}>"


MULTIPLY = Symbol("multiply", 3, 5)
PACK_LEFT = Symbol("pack_left", 3, 11)
PACK_RIGHT = Symbol("pack_right", 3, 11)

_PACKED = [
    *(("ptr", name) for name in ("target", "x", "y")),
    *(("i64", name) for name in ("batch", "free", "terms")),
    *(("i64", name) for name in ("x_batch", "x_free", "x_term", "y_batch", "y_free", "y_term", "p", "q")),
]


def module(tiles: Tiles) -> str:
    """Return the text of a module with the functions `multiply`, `pack_left` and `pack_right`."""
    functions = [_tile(tiles, height) for height in tiles.heights]
    functions += [_multiply(tiles), _pack_left(tiles), _pack_right(tiles)]
    return "\n".join([*(each.text() for each in functions), "declare i64 @llvm.smin.i64(i64, i64)"])


def _tile(t: Tiles, height: int) -> Function:
    """Add the product of a left panel (terms, height) and a right one (terms, width) to rows of c.

    The rows of c are `stride` elements apart.
    """
    parameters = [("ptr", "a"), ("ptr", "b"), ("ptr", "c"), ("i64", "stride"), ("i64", "terms")]
    f = Function(f"tile{height}", parameters, local=True)
    size = t.bits // 8
    with f.accumulate(t.vector, height * t.vectors, "%terms") as (term, sums, new):
        left = f.at(t.element, "%a", f.multiply(term, height))
        right = f.at(t.element, "%b", f.multiply(term, t.width))
        columns = [
            f.load(t.vector, f.at(t.element, right, each * t.lanes), size) for each in range(t.vectors)
        ]
        for row in range(height):
            one = f.load(t.element, f.at(t.element, left, row), size)
            first = f.value(f"insertelement {t.vector} poison, {t.element} {one}, i32 0")
            spread = f.value(
                f"shufflevector {t.vector} {first}, {t.vector} poison, <{t.lanes} x i32> zeroinitializer"
            )
            for each, column in enumerate(columns):
                place = row * t.vectors + each
                product = f.value(f"mul {t.vector} {spread}, {column}")
                new[place] = f.value(f"add {t.vector} {sums[place]}, {product}")
    for row in range(height):
        start = f.at(t.element, "%c", f.multiply("%stride", row))
        for each in range(t.vectors):
            target = f.at(t.element, start, each * t.lanes)
            before = f.load(t.vector, target)
            f.store(t.vector, f.value(f"add {t.vector} {before}, {new[row * t.vectors + each]}"), target)
    return f


def _multiply(t: Tiles) -> Function:
    """Add products of packed operands to c, which has the shape (batch, m, n).

    The work consists of units, which are numbered by batch, block of rows, and panel of columns. Units from
    `first` to `last` are computed. Two units write to different elements.
    """
    parameters = [("ptr", "a"), ("ptr", "b"), ("ptr", "c")]
    f = Function("multiply", [*parameters, *(("i64", name) for name in ("m", "n", "k", "first", "last"))])
    beside = f.value(f"alloca [{t.heights[0] * t.width} x {t.element}], align 64")
    panels, _ = f.divide(f.add("%n", t.width - 1), t.width)
    blocks, _ = f.divide(f.add("%m", t.rows - 1), t.rows)
    units = f.multiply(panels, blocks)
    with f.loop("%first", "%last") as unit:
        batch, rest = f.divide(unit, units)
        block, panel = f.divide(rest, panels)
        row, column = f.multiply(block, t.rows), f.multiply(panel, t.width)
        stop, columns = f.least("%m", f.add(row, t.rows)), f.subtract("%n", column)
        whole = f.value(f"icmp sge i64 {columns}, {t.width}")
        part = f.value(f"xor i1 {whole}, true")
        a = f.at(t.element, "%a", f.multiply(batch, f.multiply("%m", "%k")))
        b = f.at(
            t.element, "%b", f.multiply(f.add(f.multiply(batch, panels), panel), f.multiply("%k", t.width))
        )
        c = f.at(t.element, "%c", f.add(f.multiply(batch, f.multiply("%m", "%n")), column))
        with f.loop(0, "%k", t.terms) as term:
            terms = f.least(t.terms, f.subtract("%k", term))
            right = f.at(t.element, b, f.multiply(term, t.width))
            following = row
            for height in t.heights:
                with f.loop(following, f.subtract(stop, height - 1), height) as at:
                    left = f.at(t.element, a, f.add(f.multiply(at, "%k"), f.multiply(term, height)))
                    target = f.at(t.element, c, f.multiply(at, "%n"))
                    call = f"call void @tile{height}(ptr {left}, ptr {right}"
                    with f.when(whole):
                        f.line(f"{call}, ptr {target}, i64 %n, i64 {terms})")
                    with f.when(part):
                        with f.loop(0, height * t.width, t.lanes) as place:
                            f.store(t.vector, "zeroinitializer", f.at(t.element, beside, place))
                        f.line(f"{call}, ptr {beside}, i64 {t.width}, i64 {terms})")
                        _add_part(f, t, beside, target, height, columns)
                following = at
    return f


def _add_part(f: Function, t: Tiles, source: str, target: str, height: int, columns: str) -> None:
    """Add the first columns of a tile to rows of the result, which are n elements apart."""
    with f.loop(0, height) as i, f.loop(0, columns) as j:
        one = f.load(t.element, f.at(t.element, source, f.add(f.multiply(i, t.width), j)))
        place = f.at(t.element, target, f.add(f.multiply(i, "%n"), j))
        f.store(t.element, f.value(f"add {t.element} {f.load(t.element, place)}, {one}"), place)


class _Sources:
    """The two arrays of a combination p x + q y while they are packed. Strides count elements."""

    def __init__(self, f: Function, t: Tiles) -> None:
        self.f, self.t = f, t
        change = "trunc" if t.bits < 64 else "bitcast"
        self.factors = [f.value(f"{change} i64 %{name} to {t.element}") for name in "pq"]

    def at(self, pair: tuple[str, str], axis: str, index: str | int) -> tuple[str, str]:
        """Return the addresses of both arrays so many places further along an axis."""
        x, y = (
            self.f.at(self.t.element, pointer, self.f.multiply(f"%{name}_{axis}", index))
            for name, pointer in zip("xy", pair, strict=True)
        )
        return x, y

    def element(self, pair: tuple[str, str]) -> str:
        """Return the combination of the two elements."""
        kind = self.t.element
        terms = [
            self.f.value(f"mul {kind} {factor}, {self.f.load(kind, pointer)}")
            for factor, pointer in zip(self.factors, pair, strict=True)
        ]
        return self.f.value(f"add {kind} {terms[0]}, {terms[1]}")


def _pack_left(t: Tiles) -> Function:
    """Write panels of p x + q y, which have the shape (terms, height), one after the other."""
    f = Function("pack_left", _PACKED)
    sources = _Sources(f, t)
    with f.loop(0, "%batch") as entry:
        of_entry = sources.at(("%x", "%y"), "batch", entry)
        target = f.at(t.element, "%target", f.multiply(entry, f.multiply("%free", "%terms")))
        following = "0"
        for height in t.heights:
            with f.loop(following, f.subtract("%free", height - 1), height) as at:
                panel, of_panel = (
                    f.at(t.element, target, f.multiply(at, "%terms")),
                    sources.at(of_entry, "free", at),
                )
                rows = [sources.at(of_panel, "free", row) for row in range(height)]
                with f.loop(0, "%terms") as term:
                    place = f.at(t.element, panel, f.multiply(term, height))
                    for number, row in enumerate(rows):
                        made = sources.element(sources.at(row, "term", term))
                        f.store(t.element, made, f.at(t.element, place, number))
            following = at
    return f


def _pack_right(t: Tiles) -> Function:
    """Write panels of p x + q y, which have the shape (terms, width). The last one is filled with zeros."""
    f = Function("pack_right", _PACKED)
    sources = _Sources(f, t)
    size = f.multiply("%terms", t.width)
    panels, _ = f.divide(f.add("%free", t.width - 1), t.width)
    with f.loop(0, "%batch") as entry, f.loop(0, panels) as panel:
        target = f.at(t.element, "%target", f.multiply(f.add(f.multiply(entry, panels), panel), size))
        column = f.multiply(panel, t.width)
        count = f.least(t.width, f.subtract("%free", column))
        of_panel = sources.at(sources.at(("%x", "%y"), "batch", entry), "free", column)
        with f.loop(0, "%terms") as term:
            place = f.at(t.element, target, f.multiply(term, t.width))
            of_term = sources.at(of_panel, "term", term)
            with f.loop(0, count) as j:
                made = sources.element(sources.at(of_term, "free", j))
                f.store(t.element, made, f.at(t.element, place, j))
            with f.loop(count, t.width) as j:
                f.store(t.element, "0", f.at(t.element, place, j))
    return f
