"""Identify the operations of a fused program, so that what was observed of one is applied to it alone.

An operation is known by its path, its kind, and two digests of how it is computed. The exact digest changes
with anything that it is computed from. The near one serves calls of other shapes. It leaves out shapes,
layout, public arrays, and numbers that count elements. What comes from another path stands in it by that path
and its op alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ditto_spu import ir
from ditto_spu.ir.arithmetic import splat
from ditto_spu.ops import subject
from ditto_spu.ops.compare import COMPARE
from ditto_spu.ops.decision import Kind, Nth, read_entry
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.numbers import numbers, rearranges
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.pipeline import Work

Key = tuple[str, str, str]  # path, op and near digest


@dataclass(frozen=True)
class Identity:
    """What tells an operation from others.

    path, op: the path of the user's module, and the op of the rules.
    nth: which one of those of its kind at the path it is. None for layout, and for what runs on SPU.
    near, exact: the digests.
    source: for layout, what it rearranges: the number of an operation in @main, or the path of an argument.
    """

    path: str
    op: str
    nth: Nth | None
    near: str
    exact: str
    source: int | str | None = None

    @property
    def key(self) -> Key:
        """What it has in common with the same operation in calls of other shapes."""
        return self.path, self.op, self.near


@dataclass(frozen=True)
class Identities:
    """The operations of a program.

    arguments: a digest of paths, types and visibilities of the program's arguments.
    operations: the operations of @main in order, without the return. None for one that is not observed.
    """

    arguments: str
    operations: tuple[Identity | None, ...]


def identities(linear: Work) -> Identities:
    """Identify the operations of a program after the pass `linearise`."""
    program, module = linear.parts, linear.module
    texts = [f"{each.path} {each.dtype}{each.shape} {each.public}" for each in program.arguments]
    digests = _Digests(module, program.public, texts, program.paths)
    *operations, _ = ir.ops(ir.body(ir.main(module)))
    found = kinds(operations, digests.secret.__getitem__)
    nths = numbers(found)
    makers: dict[ir.Value, int | str] = dict(zip(ir.arguments(module), program.paths, strict=True))
    made: list[Identity | None] = []
    for number, (op, kind) in enumerate(found.items()):
        near, exact = digests.add(op, kind)
        place = ir.path_of(op), subject(op, kind)
        source = makers[op.operands[0]] if kind is Kind.LOCAL and rearranges(op) else None
        makers |= dict.fromkeys(op.results, number)
        made.append(
            None if not is_observed(op, kind) else Identity(*place, nths.get(op), near, exact, source)
        )
    return Identities(_digest(texts), tuple(made))


def is_observed(op: ir.Op, kind: Kind) -> bool:
    """Tell whether a calibration observes an operation: one that computes secret numbers, or reads some."""
    floats = [*op.results, *(op.operands if kind is Kind.KERNEL else ())]
    return kind is not Kind.PUBLIC and len(op.results) == 1 and any(map(ir.is_float, floats))


class _Digests:
    """The digests of the values of a program so far.

    secret: whether each value is secret.
    """

    def __init__(
        self, module: ir.Module, public: Sequence[bool], texts: Sequence[str], paths: Sequence[str]
    ) -> None:
        self.secret = visibility(module, public)
        prepared = read_entry(module).prepared
        self._near: dict[ir.Value, str] = {}
        self._exact: dict[ir.Value, str] = {}
        self._homes: dict[ir.Value, tuple[str, str]] = {}  # path and op behind a value, without layout
        for place, (value, text, path) in enumerate(zip(ir.arguments(module), texts, paths, strict=True)):
            self._exact[value] = text
            self._near[value] = "public" if public[place] else " ".join(prepared.get(place, ("input", path)))
        self._counts = _counts([ir.shape(each) for each in ir.arguments(module)])

    def add(self, op: ir.Op, kind: Kind) -> tuple[str, str]:
        """Note the digests of an operation's results, and return them."""
        inputs = [*op.operands, *ir.captured(op)]
        exact = _digest([*_exactly(op), *(self._exact[each] for each in inputs)])
        path = ir.path_of(op)
        if kind is Kind.PUBLIC:
            near = self._public(op)
        elif kind is Kind.LOCAL and rearranges(op):
            near = self._near[op.operands[0]]
            if op.operands[0] in self._homes:
                self._homes[op.results[0]] = self._homes[op.operands[0]]
        else:
            near = _digest([*_nearly(op), *(self._from(path, each) for each in inputs)])
            self._homes |= dict.fromkeys(op.results, (path, subject(op, kind)))
        self._near |= dict.fromkeys(op.results, near)
        self._exact |= {each: f"{exact} {number}" for number, each in enumerate(op.results)}
        return near, exact

    def _from(self, path: str, value: ir.Value) -> str:
        """Return the near digest of an operand, or its path and op where this is another path."""
        home = self._homes.get(value)
        return self._near[value] if home is None or home[0] == path else " ".join(home)

    def _public(self, op: ir.Op) -> str:
        """Return the near digest of a public value: a number that counts no elements, or nothing of it."""
        number = splat(op.results[0]) if len(op.results) == 1 and ir.is_float(op.results[0]) else None
        counts = {number, _inverse(number)} if number is not None and math.isfinite(number) else {number}
        return "public" if number is None or counts & self._counts else f"{number:.6g}"


def _inverse(number: float) -> float:
    """Return 1 / number, as a whole number where it is one but for rounding."""
    inverse = 1 / number if number else 0.0
    return round(inverse) if abs(inverse - round(inverse)) < 1e-5 * inverse else inverse


def _counts(shapes: Sequence[tuple[int, ...]]) -> frozenset[int]:
    """Return the numbers of elements along any dimensions of arrays of these shapes."""
    return frozenset(
        math.prod(sizes)
        for shape in set(shapes)
        for taken in range(1, min(len(shape), 4) + 1)
        for sizes in combinations(shape, taken)
    )


def _exactly(op: ir.Op) -> Iterator[str]:
    """Yield all that makes an operation what it is, beside its operands."""
    if op.name == "stablehlo.constant":
        value = np.asarray(ir.constant_value(op))
        yield f"{value.dtype}{value.shape}"
        yield hashlib.blake2b(value.tobytes(), digest_size=8).hexdigest()
        return
    for each in (op, *ir.walk(op)):
        yield ir.signature(each)
    for result in op.results:
        yield f"{ir.element(result)}{ir.shape(result)}"


def _nearly(op: ir.Op) -> Iterator[str]:
    """Yield the name of an operation and those inside it, without anything that depends on shapes."""
    yield ir.composite_name(op) or op.name
    yield from map(ir.element, op.results)
    yield from (f"{value:.6g}" for value in ir.composite_attributes(op).values() if isinstance(value, float))
    for each in (op, *ir.walk(op)):
        yield each.name
        if each.name in COMPARE.kernels:
            yield ir.comparison(each)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=6).hexdigest()
