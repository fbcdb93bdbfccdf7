"""The decisions of the compiler, and the only place that reads and writes them as `ditto.*` attributes.

A decision is written on an operation as string attributes, so that the module stays valid StableHLO after
every pass and its text shows what was decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir


class Kind(str, Enum):
    """How the parties compute an operation."""

    PUBLIC = "public"  # in plaintext, alike at every party
    CAST = "cast"  # a change of format
    LOCAL = "local"  # linear: each party on its own components
    SCALE = "scale"  # local, times a public value; truncated afterwards where it has fraction bits
    RETAG = "retag"  # times a power of two: only the point moves
    MATMUL = "matmul"  # a product of matrices
    MULTIPLY = "multiply"  # an elementwise product of two secret values
    KERNEL = "kernel"  # a kernel of ours
    SPU = "spu"  # a step of SPU


@dataclass(frozen=True)
class Decision:
    """All that is decided about one operation.

    kind: how the parties compute it. path: that of the user's module.
    format: of the result; None while the result only rearranges an argument whose format is still open.
    natural: the format before the cast that belongs to the operation: a product has the fraction bits of both
        of its operands. None if it is `format`.
    operands: what each operand is cast to first; None leaves it as it is.
    factor: in what format a public factor is encoded.
    approx, inner, range: what the rules say; see `Choice`.
    """

    kind: Kind
    path: str
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


def read(op: ir.Op) -> Decision | None:
    """The decision that stands on an operation, or None."""
    kind = ir.attribute(op, "ditto.kind")
    if kind is None:
        return None
    formats = {
        name: Fxp.parse(text) for name in _FORMATS if (text := ir.attribute(op, f"ditto.{name}")) is not None
    }
    operands, declared = ir.attribute(op, "ditto.operands"), ir.attribute(op, "ditto.range")
    return Decision(
        Kind(kind),
        ir.attribute(op, "ditto.path"),
        operands=None if operands is None else _parsed(operands),
        approx=ir.attribute(op, "ditto.approx"),
        range=None if declared is None else float(declared),
        **formats,
    )


def decided(op: ir.Op) -> Decision:
    """The decision on an operation that must have one."""
    found = read(op)
    assert found is not None, f"no decision stands on {op.name}"
    return found


def write(op: ir.Op, decision: Decision) -> None:
    """Put a decision on an operation that has none."""
    texts = {
        "kind": decision.kind.value,
        "path": decision.path,
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
    """What is decided and known about the arguments of @main.

    formats: of each argument; None for a public one. Empty before formats are assigned.
    binary: places of arguments that hold zeros and ones. prepared: for arguments that owners compute, the op
    of the rules and the path that they come from. hoisted: paths of all operations that owners compute.
    """

    formats: tuple[Fxp | None, ...] = ()
    binary: frozenset[int] = frozenset()
    prepared: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    hoisted: tuple[str, ...] = ()


def read_entry(module: ir.Module) -> Entry:
    """What stands on @main."""
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
    """Put on @main what is known of the arguments that owners compute."""
    main = ir.main(module)
    ir.set_string(main, "ditto.binary", ",".join(map(str, sorted(entry.binary))))
    ir.set_string(main, "ditto.hoisted", "\n".join(entry.hoisted))
    lines = (f"{place} {op} {path}" for place, (op, path) in entry.prepared.items())
    ir.set_string(main, "ditto.prepared", "\n".join(lines))


def write_formats(module: ir.Module, formats: Sequence[Fxp | None]) -> None:
    """Put the formats of the arguments on @main."""
    ir.set_string(ir.main(module), "ditto.arguments", _text(formats))


def _one(fxp: Fxp | None) -> str | None:
    return None if fxp is None else str(fxp)


def _text(formats: Sequence[Fxp | None]) -> str:
    return ",".join("-" if each is None else str(each) for each in formats)


def _parsed(text: str) -> tuple[Fxp | None, ...]:
    return tuple(None if each == "-" else Fxp.parse(each) for each in text.split(","))
