"""Write LLVM IR that tells in which cells of a ring shared numbers lie, one pass over memory for each step.

The meaning of each function stands beside its method in `cells.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from ditto_kernels.machine.ir_text import Function, Symbol

UNARY = Symbol("unary", 2, 1)
READ = Symbol("read", 4, 3)
COUNTS = Symbol("counts", 6, 2)
PARITIES = Symbol("parities", 3, 2)


def cells_module(number: int, top: int, vector_bytes: int) -> str:
    """Return the text of a module with `unary` and `read`.

    number: the bits of a number. top: so many of its highest bits tell the cell.
    """
    lanes = 8 * vector_bytes >> top
    return "\n".join(each(number, top, lanes).text() for each in (_unary, _read))


def bits_module(vector_bytes: int) -> str:
    """Return the text of a module with `counts` and `parities`."""
    reduced = f"declare i8 @llvm.vector.reduce.xor.v{vector_bytes}i8(<{vector_bytes} x i8>)"
    return "\n".join([_counts(vector_bytes).text(), _parities(vector_bytes).text(), reduced])


class _Lanes:
    """Instructions on a number of lanes of one integer type. One lane is a plain integer."""

    def __init__(self, f: Function, bits: int, lanes: int) -> None:
        self.f, self.bits, self.lanes = f, bits, lanes
        self.kind = self._of(bits)

    def _of(self, bits: int) -> str:
        return f"<{self.lanes} x i{bits}>" if self.lanes > 1 else f"i{bits}"

    def constant(self, value: int) -> str:
        if self.lanes == 1:
            return str(value)
        return "<" + ", ".join(f"i{self.bits} {value}" for _ in range(self.lanes)) + ">"

    def do(self, name: str, x: str, y: str) -> str:
        return self.f.value(f"{name} {self.kind} {x}, {y}")

    def load(self, pointer: str, index: str, bits: int | None = None) -> str:
        """Load integers of so many bits, by default of those of the lanes."""
        bits = self.bits if bits is None else bits
        return self.f.load(self._of(bits), self.f.at(f"i{bits}", pointer, index))

    def store(self, value: str, pointer: str, index: str) -> None:
        self.f.store(self.kind, value, self.f.at(f"i{self.bits}", pointer, index))

    def resized(self, value: str, bits: int) -> str:
        """Return unsigned numbers of so many bits with the bits of the lanes."""
        if bits == self.bits:
            return value
        change = "trunc" if bits > self.bits else "zext"
        return self.f.value(f"{change} {self._of(bits)} {value} to {self.kind}")

    def cell(self, pointer: str, index: str, number: int, top: int) -> str:
        """Load numbers and return their highest bits."""
        value = self.load(pointer, index, number)
        shift = _Lanes(self.f, number, self.lanes).constant(number - top)
        return self.resized(self.f.value(f"lshr {self._of(number)} {value}, {shift}"), number)

    def spread(self, name: str) -> str:
        """Return a 64-bit parameter in every lane."""
        one = self.f.value(f"trunc i64 %{name} to i{self.bits}")
        return self.f.spread(f"i{self.bits}", one, self.lanes) if self.lanes > 1 else one

    def lowest(self, value: str, pointer: str, index: str) -> None:
        """Write the lowest bit of each lane to packed bits, which begin as zeros."""
        f = self.f
        flag = f.value(f"trunc {self.kind} {value} to {self._of(1)}")
        byte, place = f.divide(index, 8)
        address = f.at("i8", pointer, byte)
        if self.lanes > 1:
            packed = f.value(f"bitcast {self._of(1)} {flag} to i{self.lanes}")
            f.store(f"i{self.lanes}", packed, address)
            return
        shift = f.value(f"trunc i64 {place} to i8")
        bit = f.value(f"shl i8 {f.value(f'zext i1 {flag} to i8')}, {shift}")
        f.store("i8", f.value(f"or i8 {f.load('i8', address)}, {bit}"), address)


def _blocks(
    f: Function, bits: int, widths: tuple[int, ...], body: Callable[[_Lanes], Callable[[str], None]]
) -> None:
    """Write the body for as many vectors as `count` has, and then for what is left in smaller ones."""
    following = "0"
    for width in widths:
        each = body(_Lanes(f, bits, width))
        with f.loop(following, f.subtract("%count", width - 1), width) as index:
            each(index)
        following = index


def _unary(number: int, top: int, lanes: int) -> Function:
    f = Function(UNARY.name, [("ptr", "masks"), ("ptr", "numbers"), ("i64", "count")])
    last = (1 << top) - 1

    def body(v: _Lanes) -> Callable[[str], None]:
        def block(index: str) -> None:
            away = v.do("sub", v.constant(last), v.cell("%numbers", index, number, top))
            words = v.do("lshr", v.constant(-1), away)
            v.store(v.do("xor", words, v.load("%masks", index)), "%masks", index)

        return block

    _blocks(f, 1 << top, (lanes, 1), body)
    return f


def _read(number: int, top: int, lanes: int) -> Function:
    pointers = (("ptr", name) for name in ("outside", "wraps", "words", "numbers"))
    f = Function(READ.name, [*pointers, *(("i64", name) for name in ("count", "cells", "leader"))])
    last = (1 << top) - 1

    def body(v: _Lanes) -> Callable[[str], None]:
        cells, leader = v.spread("cells"), v.spread("leader")

        def block(index: str) -> None:
            words, known = v.load("%words", index), v.cell("%numbers", index, number, top)
            first = v.do("and", v.do("sub", v.constant(0), known), v.constant(last))
            after = v.do("sub", v.do("sub", cells, v.constant(1)), known)
            after = v.do("and", after, v.constant(last))
            inside = v.do("xor", v.do("lshr", words, first), v.do("lshr", words, after))
            # first <= after, as the highest bit of a difference that does not wrap
            apart = v.do("lshr", v.do("sub", after, first), v.constant((1 << top) - 1))
            negated = v.do("and", v.do("xor", apart, v.constant(1)), leader)
            v.lowest(v.do("xor", inside, negated), "%outside", index)
            v.lowest(v.do("lshr", words, v.do("sub", v.constant(last), known)), "%wraps", index)

        return block

    _blocks(f, 1 << top, (lanes, 1), body)
    return f


def _counts(lanes: int) -> Function:
    pointers = (("ptr", name) for name in ("target", "bits", "own", "mine", "other", "products"))
    f = Function(COUNTS.name, [*pointers, ("i64", "count"), ("i64", "leader")])

    def body(v: _Lanes) -> Callable[[str], None]:
        leader, zero = v.spread("leader"), v.constant(0)
        flags = f"<{v.lanes} x i1>"

        def flag(pointer: str, index: str) -> str:
            byte, _ = f.divide(index, 8)
            return f.value(
                f"bitcast i{v.lanes} {f.load(f'i{v.lanes}', f.at('i8', pointer, byte))} to {flags}"
            )

        def choose(condition: str, x: str, y: str) -> str:
            return f.value(f"select {flags} {condition}, {v.kind} {x}, {v.kind} {y}")

        def block(index: str) -> None:
            mine, other, own = (flag(name, index) for name in ("%mine", "%other", "%own"))
            product = v.load("%products", index)
            negated = v.do("sub", zero, product)
            both = f.value(f"and {flags} {mine}, {other}")
            differ = f.value(f"xor {flags} {mine}, {other}")
            masked = f.value(f"and {flags} {other}, {own}")
            total = v.do("and", choose(both, v.constant(1), zero), leader)
            signed = choose(mine, v.constant(-1), v.constant(1))
            total = v.do("add", total, choose(masked, signed, zero))
            total = v.do("add", total, choose(differ, negated, product))
            bit = choose(flag("%bits", index), v.constant(1), zero)
            v.store(v.do("sub", bit, v.do("add", total, total)), "%target", index)

        return block

    _blocks(f, 8, (lanes, 8), body)
    return f


def _parities(lanes: int) -> Function:
    pointers = (("ptr", name) for name in ("target", "bits", "stream"))
    f = Function(PARITIES.name, [*pointers, ("i64", "count"), ("i64", "windows")])
    v = _Lanes(f, 8, lanes)
    vectors, _ = f.divide("%count", lanes)
    some, first = f.value(f"icmp sgt i64 {vectors}, 0"), f.multiply(vectors, lanes)
    with f.loop(0, "%windows") as window:
        chosen, target = f.at("i8", "%stream", window), f.at("i8", "%target", window)
        with f.when(some):
            with f.accumulate(v.kind, 1, vectors) as (block, sums, new):
                index = f.multiply(block, lanes)
                new[0] = v.do("xor", sums[0], v.do("and", v.load("%bits", index), v.load(chosen, index)))
            one = f.value(f"call i8 @llvm.vector.reduce.xor.v{lanes}i8({v.kind} {new[0]})")
            f.store("i8", one, target)
        single = _Lanes(f, 8, 1)
        with f.loop(first, "%count") as index:
            bit = single.do("and", single.load("%bits", index), single.load(chosen, index))
            f.store("i8", single.do("xor", f.load("i8", target), bit), target)
    return f
