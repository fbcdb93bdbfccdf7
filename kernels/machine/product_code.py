"""Write LLVM IR that multiplies matrices of ring elements whose operands are packed.

The left operand is packed in panels of a few rows, the right one in panels of a few vectors of columns. A
tile multiplies two panels and keeps its sums in registers. Tails of rows have lower tiles, and tails of
columns are computed beside the result and copied.
"""

from __future__ import annotations

from ditto_kernels.machine.ir_text import Function, Symbol
from ditto_kernels.machine.pack_code import pack_left, pack_right
from ditto_kernels.machine.tiles import Tiles

MULTIPLY = Symbol("multiply", 3, 5)


def module(tiles: Tiles) -> str:
    """Return the text of a module with the functions `multiply`, `pack_left` and `pack_right`."""
    functions = [_tile(tiles, height) for height in tiles.heights]
    functions += [_multiply(tiles), pack_left(tiles), pack_right(tiles)]
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
            spread = f.spread(t.element, one, t.lanes)
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
