"""Define the decisions of the compiler. Only this file reads and writes them as `ditto.*` attributes.

A decision is written on an operation as string attributes. The module thus stays valid StableHLO after every
pass, and its text shows the decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir


class Kind(str, Enum):
    """The way in which the parties compute an operation."""

    PUBLIC = "public"  # every party computes it in plaintext, with the same result
    CAST = "cast"  # a change of format
    LOCAL = "local"  # linear: each party computes on its own components
    SCALE = "scale"  # times a public value: local, then truncated where that value has fraction bits
    RETAG = "retag"  # times a power of two: only the point moves, without a message
    MATMUL = "matmul"  # a product of matrices
    MULTIPLY = "multiply"  # an elementwise product of two secret values
    KERNEL = "kernel"  # another kernel of this project
    SPU = "spu"  # a step of SPU


@dataclass(frozen=True)
class Nth:
    """The place of an operation among those of one kind at one path, in the order of the program.

    number: its number, from 1.
    of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Nth:
        """Read the text that `str` gives."""
        number, of = text.split("/")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Decision:
    """All decisions about one operation.

    kind: how the parties compute it.
    path: the path of the user's module.
    nth: which one of those of its kind at the path it is. None for layout, and for what runs on SPU.
    format: the format of the result. It is None while the result only rearranges an argument whose format is
        still open.
    natural: the format before the cast that belongs to the operation, since a product has the fraction bits
        of both of its operands. It is None if it equals `format`.
    operands: the format that each operand is cast to first. None leaves an operand as it is.
    factor: the format in which a public factor is encoded.
    approx, inner, range: the values that the rules set; see `Choice`.
    """

    kind: Kind
    path: str
    nth: Nth | None = None
    format: Fxp | None = None
    natural: Fxp | None = None
    operands: tuple[Fxp | None, ...] | None = None
    factor: Fxp | None = None
    approx: str | None = None
    inner: Fxp | None = None
    range: float | None = None

    @property
    def out(self) -> Fxp:
        """The format of the result of a finished decision."""
        assert self.format is not None
        return self.format

    @property
    def computed(self) -> Fxp:
        """The format in which the operation computes its result, before any cast of it."""
        return self.natural or self.out


_FORMATS = ("format", "natural", "factor", "inner")
_format = cache(Fxp.parse)  # a deep model has the same few formats thousands of times


def read(op: ir.Op) -> Decision | None:
    """Return the decision that is written on an operation, or None."""
    if "ditto.kind" not in op.attributes:
        return None
    texts = {each.name: each.attr.value for each in op.attributes if each.name.startswith("ditto.")}
    formats = {name: _format(text) for name in _FORMATS if (text := texts.get(f"ditto.{name}")) is not None}
    operands, declared = texts.get("ditto.operands"), texts.get("ditto.range")
    nth = texts.get("ditto.nth")
    return Decision(
        Kind(texts["ditto.kind"]),
        texts["ditto.path"],
        None if nth is None else Nth.parse(nth),
        operands=None if operands is None else _parsed(operands),
        approx=texts.get("ditto.approx"),
        range=None if declared is None else float(declared),
        **formats,
    )


def decided(op: ir.Op) -> Decision:
    """Return the decision on an operation that must have one."""
    found = read(op)
    assert found is not None, f"no decision stands on {op.name}"
    return found


def write(op: ir.Op, decision: Decision) -> None:
    """Write a decision on an operation that has none."""
    texts = {
        "kind": decision.kind.value,
        "path": decision.path,
        "nth": None if decision.nth is None else str(decision.nth),
        "range": None if decision.range is None else f"{decision.range:g}",
        "approx": decision.approx,
        "operands": None if decision.operands is None else _text(decision.operands),
        **{name: _one(getattr(decision, name)) for name in _FORMATS},
    }
    for name, text in texts.items():
        if text is not None:
            ir.set_string(op, f"ditto.{name}", text)


@dataclass(frozen=True)
class Entry:
    """The decisions and facts about the arguments of @main.

    formats: the format of each argument, or None for a public one. The tuple is empty before formats are
        assigned.
    binary: the places of arguments that hold only zeros and ones.
    prepared: for each argument that an owner computes, the op of the rules and the path that it comes from.
    hoisted: the paths of all operations that owners compute.
    """

    formats: tuple[Fxp | None, ...] = ()
    binary: frozenset[int] = frozenset()
    prepared: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    hoisted: tuple[str, ...] = ()


def read_entry(module: ir.Module) -> Entry:
    """Return the decisions and facts that are written on @main."""
    main = ir.main(module)
    formats = ir.attribute(main, "ditto.arguments", "")
    binary = ir.attribute(main, "ditto.binary", "").split(",")
    lines = ir.attribute(main, "ditto.prepared", "").split("\n")
    prepared = {int(place): (op, path) for line in lines if line for place, op, path in [line.split(" ", 2)]}
    return Entry(
        _parsed(formats) if formats else (),
        frozenset(int(place) for place in binary if place),
        prepared,
        tuple(path for path in ir.attribute(main, "ditto.hoisted", "").split("\n") if path),
    )


def write_prepared(module: ir.Module, entry: Entry) -> None:
    """Write on @main the facts about the arguments that owners compute."""
    main = ir.main(module)
    ir.set_string(main, "ditto.binary", ",".join(map(str, sorted(entry.binary))))
    ir.set_string(main, "ditto.hoisted", "\n".join(entry.hoisted))
    lines = (f"{place} {op} {path}" for place, (op, path) in entry.prepared.items())
    ir.set_string(main, "ditto.prepared", "\n".join(lines))


def write_formats(module: ir.Module, formats: Sequence[Fxp | None]) -> None:
    """Write the formats of the arguments on @main."""
    ir.set_string(ir.main(module), "ditto.arguments", _text(formats))


def _one(fxp: Fxp | None) -> str | None:
    return None if fxp is None else str(fxp)


def _text(formats: Sequence[Fxp | None]) -> str:
    return ",".join("-" if each is None else str(each) for each in formats)


def _parsed(text: str) -> tuple[Fxp | None, ...]:
    return tuple(None if each == "-" else _format(each) for each in text.split(","))
