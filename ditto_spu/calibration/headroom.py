"""Headroom: the distance of observed values from the ends of every range on which a protocol relies."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.table import Table

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.known import Known
from ditto_spu.calibration.needed import ways
from ditto_spu.calibration.summary import Observed
from ditto_spu.errors import RangeError, RangeWarning, UnsupportedOpError
from ditto_spu.ir.locations import UNKNOWN_LINE
from ditto_spu.ops import interval_of, record_of, subject
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.decision import Kind, Nth, read, read_entry
from ditto_spu.ops.op import Call, Span
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.verify import product_room, result_room
from ditto_spu.plan.plan import SPU_FORMAT
from ditto_spu.plan.printed import printed
from ditto_spu.rules.rule import INPUT, WEIGHT
from ditto_spu.spu import limits

OPERANDS = ("operand", "second")
GROUNDS = ("proven", "calibrated", "declared", "unknown")
THIN = 0.25  # less headroom than this, in bits, is worth a warning


@dataclass(frozen=True)
class Range:
    """One range on which a protocol relies: a quantity must stay within [low, high].

    path, op: the place in the program.
    nth: which one of the operations of the kind at the path it is.
    what: the name of the quantity, such as "result", "declared range", "product" or "variance".
    format: the format that gives the range.
    observed: least and largest value of the quantity. None without a calibration, or where it has no values.
    declared: the range that the configuration declares for the op, if any.
    fact: the name under which observers note the quantity; '' for the result itself.
    line: file and line of the user's code.
    exact: whether every value within the range is as good as any other.
    proven: an interval that holds every value of the quantity, whatever the inputs are.
    """

    path: str
    op: str
    nth: Nth | None
    what: str
    format: str
    low: float
    high: float
    observed: Span | None = None
    declared: float | None = None
    fact: str = ""
    line: str = ""
    exact: bool = False
    proven: Span | None = None

    @property
    def ground(self) -> str:
        """Return why the values stay in the range: "proven", "calibrated", "declared" or "unknown".

        A calibrated range holds for values like those of the calibration, and a declared one for those that
        keep the promise of a rule. Values of an unknown one may leave it, which a simulated run checks.
        """
        if self.proven is not None and self.low <= self.proven[0] and self.proven[1] <= self.high:
            return "proven"
        if self.observed is not None:
            return "calibrated"
        return "unknown" if self.declared is None else "declared"

    @property
    def name(self) -> str:
        """The op, with its number where the path has several of the kind."""
        return self.op if self.nth is None or self.nth.of == 1 else f"{self.op} {self.nth}"

    def seen(self, values: Observed | None) -> Range:
        """Return the range with the observed values of its quantity."""
        if values is None:
            return self
        observed = values.facts.get(self.fact) if self.fact else (values.least, values.most)
        return replace(self, observed=observed)

    @property
    def headroom(self) -> float | None:
        """Return the bits between the observed values and the nearer end of the range.

        It is negative if values lie beyond that end, and None without observed values.
        """
        if self.observed is None:
            return None
        low, high = self.observed
        if self.exact:
            return math.inf if self.low <= low and high <= self.high else -math.inf
        room = [_bits(self.high, max(high, 0.0))]
        if self.low > 0:
            room.append(_bits(max(low, 0.0), self.low))
        elif self.low < 0:
            room.append(_bits(-self.low, max(-low, 0.0)))
        return min(room)


def _bits(large: float, small: float) -> float:
    if small == 0:
        return math.inf
    return -math.inf if large <= 0 or math.isinf(small) else math.log2(large) - math.log2(small)


@dataclass(frozen=True)
class Ranges:
    """All ranges of a plan, in the order of the program."""

    rows: tuple[Range, ...]

    def require(self) -> None:
        """Check that all observed values lie within their ranges.

        Raises RangeError for the least headroom if it is negative. Warns with a RangeWarning that names all
        ranges with less than 0.25 bits of headroom.
        """
        self.refuse()
        thin = [row for row in self.rows if 0 <= _headroom(row) < THIN]
        if thin:
            rows = ", ".join(
                f"{row.op} at '{row.path}' ({row.what}, {_headroom(row):.2f} bits)"
                for row in sorted(thin, key=_headroom)
            )
            warnings.warn(
                f"little headroom: {rows}: an unseen input may overflow", RangeWarning, stacklevel=2
            )

    def refuse(self) -> None:
        """Raise RangeError for the least headroom if it is negative: values lie outside of a range."""
        outside = sorted((row for row in self.rows if _headroom(row) < 0), key=_headroom)
        if outside:
            worst = outside[0]
            assert worst.observed is not None
            more = len(outside) - 1
            line = f" ({worst.line})" if worst.line else ""
            admits = _span((worst.low, worst.high))
            admits = (
                f"admitted are {admits}"
                if worst.exact
                else f"{worst.format} admits {admits} (headroom {_headroom(worst):.2f} bits)"
            )
            raise RangeError(
                f"{worst.op} at '{worst.path}'{line}: {worst.what} reached "
                f"{_span(worst.observed)}, but {admits}: {_remedy(worst)}"
                + (f"; {more} more ranges are too small" if more else "")
            )

    def refuse_impossible(self) -> None:
        """Raise RangeError for a range that no value can be in, whatever the inputs are."""
        for row in self.rows:
            if row.proven is not None and (row.proven[0] > row.high or row.proven[1] < row.low):
                line = f" ({row.line})" if row.line else ""
                raise RangeError(
                    f"{row.op} at '{row.path}'{line}: {row.what} is {_span(row.proven)} for every input, "
                    f"but {row.format} admits {_span((row.low, row.high))}: {_remedy(row)}"
                )

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return plain data for JSON, one entry per range."""
        return [asdict(row) | {"ground": row.ground, "headroom": row.headroom} for row in self.rows]

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        titles = ("path", "op", "what", "ground", "observed", "declared", "format", "admits", "headroom bits")
        for title in titles:
            table.add_column(title, justify="right" if title == "headroom bits" else "left")
        for row in self.rows:
            table.add_row(
                row.path,
                row.name,
                row.what,
                row.ground,
                "-" if row.observed is None else _span(row.observed),
                "-" if row.declared is None else f"{row.declared:g}",
                row.format,
                _span((row.low, row.high)),
                "-" if row.headroom is None else f"{row.headroom:.2f}",
            )
        grounds = Counter(row.ground for row in self.rows)
        table.caption = "grounds: " + ", ".join(f"{grounds[each]} {each}" for each in GROUNDS)
        return table

    def __str__(self) -> str:
        return printed(self)


def _headroom(row: Range) -> float:
    return math.inf if row.headroom is None else row.headroom


def _span(span: Span) -> str:
    low, high = span
    return f"±{high:.4g}" if low == -high else f"{low:.4g} to {high:.4g}"


def _remedy(row: Range) -> str:
    if row.what == "declared range":
        return "raise the declared range and give its format room, or calibrate the default configuration"
    if row.what == "argument":
        return "bring it there with jnp.clip, or give small arguments more fraction bits (rule `operand`)"
    if row.what == "divisor":
        return 'scale it, or take the form for any size (rule `approx = "whole"`)'
    if row.exact:
        return "give ids of rows of the table, or bring the others there with jnp.clip"
    if row.what in ("variance", "mean", "mean square", "divisor", "size of the divisor"):
        return "scale what it reads"
    if row.what == "product":
        return f'give its operands fewer fraction bits (rule `operand`, op "{WEIGHT}") or a wider ring'
    return "choose fewer fraction bits or a wider ring for this path"


def ranges(
    module: ir.Module,
    public: Sequence[bool],
    arguments: Sequence[str],
    known: Known | None = None,
) -> Ranges:
    """Return the ranges of a module that has formats, the narrowest one of each quantity.

    public: for each argument, whether it is public.
    arguments: the paths of the arguments.
    known: the observed values.
    """
    of_arguments = (row for _, row in observed_arguments(module, arguments, known))
    return Ranges(_worst([*of_arguments, *(row for _, row in observed_operations(module, public, known))]))


def observed_arguments(
    module: ir.Module, paths: Sequence[str], known: Known | None
) -> Iterator[tuple[int, Range]]:
    """Yield what `argument_ranges` returns, with the observed values."""
    for place, row in argument_ranges(module, paths):
        yield place, row if known is None else row.seen(known.argument(row.path))


def observed_operations(
    module: ir.Module, public: Sequence[bool], known: Known | None
) -> Iterator[tuple[int, Range]]:
    """Yield what `relied_on` does, with the observed values. Quantities without values are left out."""
    for number, row in relied_on(module, public):
        seen = None if known is None else known.operations[number]
        if seen is None or row.what not in OPERANDS or row.what in seen.facts:
            yield number, row.seen(seen)


def argument_ranges(module: ir.Module, paths: Sequence[str]) -> list[tuple[int, Range]]:
    """Return the ranges of the shared arguments of a module that has formats, each with its place."""
    formats = read_entry(module).formats
    return [
        (place, Range(path, INPUT, None, "result", str(fxp), -fxp.limit / 2, fxp.limit / 2))
        for place, (value, path, fxp) in enumerate(zip(ir.arguments(module), paths, formats, strict=False))
        if fxp is not None and ir.is_float(value)
    ]


def relied_on(module: ir.Module, public: Sequence[bool]) -> Iterator[tuple[int, Range]]:
    """Yield every range that an operation of a module with formats relies on, without observed values.

    Each comes with the number of its operation among those that are no casts.
    """
    return ((number, row) for number, row, _ in about_values(module, public))


def about_values(module: ir.Module, public: Sequence[bool]) -> Iterator[tuple[int, Range, ir.Value | None]]:
    """Yield what `relied_on` does, and the value that each range is about, if all of its elements matter."""
    secret = visibility(module, public)
    known = ir.intervals(module, interval_of, is_cast)
    operations = ir.ops(ir.body(ir.main(module)))[:-1]
    taken = ways(operations)
    for number, op in enumerate(op for op in operations if not is_cast(op)):
        decision = read(op)
        if decision is None or not _has_ranges(op, decision.kind):
            continue
        line = ir.source_of(op)
        rows = _on_spu if decision.kind is Kind.SPU else _of
        whole = taken[op.results[0]] is None
        try:
            found = list(rows(Call(op, decision, secret.__getitem__)))
        except ValueError as error:  # a format that the kernel does not take
            place = ir.path_of(op) or "the program"
            raise UnsupportedOpError(f"{place} ({line}): {subject(op, decision.kind)}: {error}") from error
        for row in found:
            about = _subject(op, row.fact) if whole else None
            proven = None if about is None else known.get(about)
            proven = None if proven == ir.EVERYTHING else proven
            yield number, replace(row, line="" if line == UNKNOWN_LINE else line, proven=proven), about


def _subject(op: ir.Op, fact: str) -> ir.Value | None:
    """Return the value that a fact is about, or None where it is about something else."""
    places = {each: place for place, each in enumerate(OPERANDS)}
    if not fact:
        return op.results[0]
    return op.operands[places[fact]] if fact in places and places[fact] < len(op.operands) else None


def _has_ranges(op: ir.Op, kind: Kind) -> bool:
    """Tell whether a result is fixed-point, or whether a kernel reads fixed-point values for another one."""
    reads = kind is Kind.KERNEL and any(ir.is_float(each) for each in op.operands)
    return reads or ir.is_float(op.results[0])


def _worst(rows: Sequence[Range]) -> tuple[Range, ...]:
    """Return the narrowest of the ranges that bound the same quantity of the same operations.

    Of equal ones it is one that is not proven, if there is any. Operations without a number, such as the
    layout at a path, count as one.
    """
    kept: dict[tuple[str, str, Nth | None, str], Range] = {}
    for row in rows:
        key = (row.path, row.op, row.nth, row.what)
        if key not in kept or _tightness(row) < _tightness(kept[key]):
            kept[key] = row
    return tuple(kept.values())


def _tightness(row: Range) -> tuple[float, float, bool]:
    return _headroom(row), row.high, row.ground == "proven"


def _on_spu(call: Call) -> Iterator[Range]:
    """Yield the range on which an operation in a step of SPU relies."""
    path, op, format_ = call.decision.path, subject(call.op, Kind.SPU), str(SPU_FORMAT)
    yield Range(path, op, None, "result", format_, -limits.RESULT, limits.RESULT)


def _of(call: Call) -> Iterator[Range]:
    """Yield the ranges on which one operation relies: of its formats, its declaration and its kernel."""
    op, decision = call.op, call.decision
    record = record_of(op, decision.kind)
    assert record is not None
    declared, out, natural = decision.range, decision.out, decision.natural

    def row(what: str, fxp: Fxp, high: float, fact: str = "", low: float | None = None) -> Range:
        about = declared if not fact else None
        low = -high if low is None else low
        return Range(decision.path, record.name, decision.nth, what, str(fxp), low, high, None, about, fact)

    if ir.is_float(op.results[0]):
        yield row("result", out, result_room(op, decision))
    if declared is not None:
        yield row("declared range", out, declared)
    if natural is not None:
        yield row("product", natural, product_room(natural, out))
    operands = decision.operands or ()
    # The fact "operand" is about the first operand, and "second" about the second one of a product.
    for index, what in enumerate(OPERANDS):
        fxp = operands[index] if index < len(operands) else None
        if fxp is not None and not (index and record.integers) and ir.is_float(op.operands[index]):
            yield row(what, fxp, record.room(call, fxp), what)
    formats = [fxp for fxp in operands if fxp is not None]  # a dividend may be public
    for each in record.relies_on(call):
        format_ = out if not each.fact or each.exact or not formats else formats[0]
        if formats or each.exact:
            found = row(each.quantity, format_, each.high, each.fact, each.low)
            yield replace(found, exact=each.exact)
