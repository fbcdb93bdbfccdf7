"""Write LLVM IR that multiplies matrices of ring elements by a few columns of factors.

Each element is read once, so nothing is packed. Elements that lie side by side are either terms of one sum,
so that vectors hold parts of it, or of several rows, so that vectors hold several sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ditto_kernels.machine.ir_text import Function, Index, Symbol

ALONG_TERMS = Symbol("along_terms", 3, 7)
ALONG_ROWS = Symbol("along_rows", 3, 7)
# So many rows, or vectors of rows, are summed at once, with so many columns of factors each: 8 sums fit the
# registers of any processor with vectors. What is left over has fewer.
_SHORT = 256  # terms of a row
_TOGETHER = ((4, (2, 1)), (1, (4, 2, 1)))


def sums_module(source: int, ring: int, lanes: int) -> str:
    """Return the text of a module with both functions.

    source: the bits of an element. Where they are fewer than those of the ring, the element is a number that
    is not negative. lanes: elements of the ring in a vector.
    """
    functions = (_along_terms(_Sums(source, ring), lanes), _along_rows(_Sums(source, ring), lanes))
    reduced = f"declare i{ring} @llvm.vector.reduce.add.v{lanes}i{ring}(<{lanes} x i{ring}>)"
    return "\n".join([*(each.text() for each in functions), reduced])


class _Sums:
    """What both functions share. They add sums (batch, columns, rows) to the target.

    Factors have the shape (batch, columns, terms). `step` is the distance of elements that do not lie side by
    side: rows or terms.
    """

    def __init__(self, source: int, ring: int) -> None:
        self.source, self.ring = source, ring

    def begin(self, symbol: Symbol) -> Function:
        names = ("batch", "rows", "terms", "columns", "x_batch", "x_step", "factors_batch")
        pointers = (("ptr", name) for name in ("target", "x", "factors"))
        self.f = Function(symbol.name, [*pointers, *(("i64", name) for name in names)])
        return self.f

    @contextmanager
    def batches(self) -> Iterator[tuple[str, str, str]]:
        """Loop over the batch. Yields the addresses of its sums, elements and factors."""
        f = self.f
        with f.loop(0, "%batch") as entry:
            target = self.at("%target", f.multiply(entry, "%columns"), "%rows")
            yield (
                target,
                self.element_at("%x", entry, "%x_batch"),
                self.at("%factors", entry, "%factors_batch"),
            )

    def columns(
        self, target: str, factors: str, together: Sequence[int]
    ) -> Iterator[tuple[list[str], list[str]]]:
        """Loop over groups of so many columns. Yields the addresses of their sums and of their factors."""
        f, following = self.f, "0"
        for count in together:
            with f.loop(following, f.subtract("%columns", count - 1), count) as column:
                places = [f.add(column, each) for each in range(count)]
                yield (
                    [self.at(target, each, "%rows") for each in places],
                    [self.at(factors, each, "%terms") for each in places],
                )
            following = column

    def at(self, pointer: str, index: Index, size: Index = 1) -> str:
        return self.f.at(f"i{self.ring}", pointer, self.f.multiply(index, size))

    def element_at(self, pointer: str, index: Index, stride: Index = 1) -> str:
        return self.f.at(f"i{self.source}", pointer, self.f.multiply(index, stride))

    def kind(self, lanes: int) -> str:
        return f"<{lanes} x i{self.ring}>" if lanes > 1 else f"i{self.ring}"

    def loaded(self, pointer: str, lanes: int = 1) -> str:
        """Return an element, or a vector of neighbours, in the ring."""
        source = f"<{lanes} x i{self.source}>" if lanes > 1 else f"i{self.source}"
        value = self.f.load(source, pointer)
        return (
            value
            if self.source == self.ring
            else self.f.value(f"zext {source} {value} to {self.kind(lanes)}")
        )

    def added(self, total: str, x: str, factor: str, lanes: int) -> str:
        """Return a sum with one more product."""
        product = self.f.value(f"mul {self.kind(lanes)} {x}, {factor}")
        return self.f.value(f"add {self.kind(lanes)} {total}, {product}")


def _along_terms(s: _Sums, lanes: int) -> Function:
    f, element, vector = s.begin(ALONG_TERMS), s.kind(1), s.kind(lanes)
    vectors, _ = f.divide("%terms", lanes)
    first, some = f.multiply(vectors, lanes), f.value(f"icmp sgt i64 {vectors}, 0")
    with s.batches() as (target, x, factors):
        following = "0"
        for height, together in _TOGETHER:
            stop = f.subtract("%rows", height - 1)
            if height > 1:  # The processor fetches long rows ahead if it reads them one after the other.
                short = f.value(f"icmp sle i64 %terms, {_SHORT}")
                stop = f.value(f"select i1 {short}, i64 {stop}, i64 0")
            with f.loop(following, stop, height) as row:
                rows = [f.add(row, each) for each in range(height)]
                elements = [s.element_at(x, each, "%x_step") for each in rows]
                for starts, groups in s.columns(target, factors, together):
                    sums_at = [s.at(start, each) for each in rows for start in starts]
                    with f.when(some):
                        with f.accumulate(vector, len(sums_at), vectors) as (block, sums, new):
                            term = f.multiply(block, lanes)
                            read = [s.loaded(s.element_at(each, term), lanes) for each in elements]
                            own = [f.load(vector, s.at(factor, term)) for factor in groups]
                            pairs = [(x_of, factor) for x_of in read for factor in own]
                            for each, pair in enumerate(pairs):
                                new[each] = s.added(sums[each], *pair, lanes)
                        for place, total in zip(sums_at, new, strict=True):
                            one = f.value(
                                f"call {element} @llvm.vector.reduce.add.v{lanes}{element}({vector} {total})"
                            )
                            f.store(element, f.value(f"add {element} {f.load(element, place)}, {one}"), place)
                    with f.loop(first, "%terms") as term:
                        read = [s.loaded(s.element_at(each, term)) for each in elements]
                        own = [f.load(element, s.at(factor, term)) for factor in groups]
                        pairs = [(x_of, factor) for x_of in read for factor in own]
                        for place, pair in zip(sums_at, pairs, strict=True):
                            f.store(element, s.added(f.load(element, place), *pair, 1), place)
            following = row
    return f


def _along_rows(s: _Sums, lanes: int) -> Function:
    f, element = s.begin(ALONG_ROWS), s.kind(1)
    with s.batches() as (target, x, factors):
        following = "0"
        for width, together in [
            *((lanes * each, columns) for each, columns in _TOGETHER),
            (1, _TOGETHER[1][1]),
        ]:
            kind = s.kind(width)
            with f.loop(following, f.subtract("%rows", width - 1), width) as row:
                elements = s.element_at(x, row)
                for starts, groups in s.columns(target, factors, together):
                    with f.accumulate(kind, len(groups), "%terms") as (term, sums, new):
                        read = s.loaded(s.element_at(elements, term, "%x_step"), width)
                        for each, factor in enumerate(groups):
                            one = f.load(element, s.at(factor, term))
                            spread = f.spread(element, one, width) if width > 1 else one
                            new[each] = s.added(sums[each], read, spread, width)
                    for start, total in zip(starts, new, strict=True):
                        place = s.at(start, row)
                        f.store(kind, f.value(f"add {kind} {f.load(kind, place)}, {total}"), place)
            following = row
    return f
