"""Headroom: how far the values that were observed stay below every range that a protocol relies on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ditto_kernels.norm.layer_norm import VARIANCE
from ditto_kernels.norm.rms_norm import MEAN_SQUARE
from ditto_kernels.softmax.plan import largest_score
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.observe import Observed, Span
from ditto_spu.errors import RangeError, RangeWarning
from ditto_spu.passes.analysis.classify import op_name, rule_op
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.verify import WINDOWED, product_room, result_room, windowed_room

THIN = 0.25  # bits of headroom below which a margin is worth a warning
_RECIPROCAL, _RSQRT, _EXP = (
    (0.5, 1024.0),
    (2.0**-9, 256.0),
    (-8.0, 8.0),
)  # of the kernels, if nobody says else
_NORM_TOP = 2.0**9


@dataclass(frozen=True)
class Range:
    """One range a protocol relies on: `what` stays within [low, high].

    observed: None without a calibration, or where it has not seen the place.
    """

    path: str
    op: str
    what: str
    format: str
    low: float
    high: float
    observed: Span | None
    declared: float | None

    @property
    def headroom(self) -> float | None:
        """Bits between what was observed and the nearer end; negative if it is beyond."""
        if self.observed is None:
            return None
        low, high = self.observed
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
    """Every range of a plan, in the order of the program."""

    rows: tuple[Range, ...]

    def require(self) -> None:
        """RangeError for the least headroom if it is negative; a RangeWarning that names thin ones."""
        known = sorted((row for row in self.rows if row.headroom is not None), key=_headroom)
        if known and _headroom(known[0]) < 0:
            worst = known[0]
            assert worst.observed is not None
            more = sum(_headroom(row) < 0 for row in known) - 1
            raise RangeError(
                f"{worst.op} at '{worst.path}': {worst.what} reached {_span(worst.observed)}, but "
                f"{worst.format} admits {_span((worst.low, worst.high))} (headroom "
                f"{_headroom(worst):.2f} bits): {_remedy(worst)}"
                + (f"; {more} more ranges are too small" if more else "")
            )
        thin = [row for row in known if _headroom(row) < THIN]
        if thin:
            rows = ", ".join(
                f"{row.op} at '{row.path}' ({row.what}, {_headroom(row):.2f} bits)" for row in thin
            )
            warnings.warn(
                f"little headroom: {rows}: an unseen input may overflow", RangeWarning, stacklevel=2
            )

    def as_dicts(self) -> list[dict[str, Any]]:
        """Plain data for JSON."""
        return [asdict(row) | {"headroom": row.headroom} for row in self.rows]

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("path", "op", "what", "observed", "declared", "format", "admits", "headroom bits"):
            table.add_column(title, justify="right" if title == "headroom bits" else "left")
        for row in self.rows:
            table.add_row(
                row.path,
                row.op,
                row.what,
                "-" if row.observed is None else _span(row.observed),
                "-" if row.declared is None else f"{row.declared:g}",
                row.format,
                _span((row.low, row.high)),
                "-" if row.headroom is None else f"{row.headroom:.2f}",
            )
        return table

    def __str__(self) -> str:
        console = Console(width=200, no_color=True)
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def _headroom(row: Range) -> float:
    return math.inf if row.headroom is None else row.headroom


def _span(span: Span) -> str:
    low, high = span
    return f"±{high:.4g}" if low == -high else f"{low:.4g} to {high:.4g}"


def _remedy(row: Range) -> str:
    if row.what == "declared range":
        return "raise the declared range, and give the format room for it"
    if row.what in ("variance", "mean", "mean square", "divisor"):
        return "scale what it reads"
    if row.what == "product":
        return 'give its operands fewer fraction bits (rule `operand`, op "weight") or a wider ring'
    return "choose fewer fraction bits or a wider ring for this path"


def ranges(
    module: ir.Module,
    public: Sequence[bool],
    arguments: Sequence[str],
    calibration: Calibration | None = None,
) -> Ranges:
    """The ranges of a module with formats; `arguments` are the paths of its arguments."""
    secret = visibility(module, public)
    rows: list[Range] = []
    formats = ir.attribute(ir.main(module), "ditto.arguments", "").split(",")
    for value, path, format_ in zip(ir.arguments(module), arguments, formats, strict=False):
        if format_ != "-" and ir.is_float(value):
            fxp, seen = Fxp.parse(format_), calibration.at(path, "input") if calibration else None
            rows.append(_row((path, "input"), "result", fxp, fxp.limit / 2, seen))
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        kind = ir.attribute(op, "ditto.kind")
        if kind is None or kind == "spu" or not ir.is_float(op.results[0]):
            continue
        place = (ir.attribute(op, "ditto.path"), rule_op(op, kind))
        rows += _of(op, place, calibration.at(*place) if calibration else None, secret)
    return Ranges(_worst(rows))


def _worst(rows: Sequence[Range]) -> tuple[Range, ...]:
    """The narrowest of the rows that speak about the same."""
    kept: dict[tuple[str, str, str], Range] = {}
    for row in rows:
        key = (row.path, row.op, row.what)
        if key not in kept or row.high < kept[key].high:
            kept[key] = row
    return tuple(kept.values())


def _row(
    place: tuple[str, str],
    what: str,
    fxp: Fxp,
    limit: float,
    seen: Observed | None,
    fact: str = "",
    low: float | None = None,
    declared: float | None = None,
) -> Range:
    observed = None
    if seen is not None:
        observed = seen.facts.get(fact) if fact else (seen.least, seen.most)
    return Range(*place, what, str(fxp), -limit if low is None else low, limit, observed, declared)


def _of(
    op: ir.Op, place: tuple[str, str], seen: Observed | None, secret: dict[ir.Value, bool]
) -> Iterator[Range]:
    """What one operation relies on: its formats, its declared range, its kernel's own range."""
    text, natural = ir.attribute(op, "ditto.range"), ir.attribute(op, "ditto.natural")
    declared, out = float(text) if text else None, Fxp.parse(ir.attribute(op, "ditto.format"))
    yield _row(place, "result", out, result_room(op, str(out)), seen, declared=declared)
    if declared is not None:
        yield _row(place, "declared range", out, declared, seen, declared=declared)
    if natural is not None:
        product = Fxp.parse(natural)
        yield _row(place, "product", product, product_room(product, out), seen, declared=declared)
    operands = [
        Fxp.parse(each) if each != "-" else None for each in ir.attribute(op, "ditto.operands").split(",")
    ]
    name = op_name(op)
    # The first operand goes by the fact "operand", the second of a product by "second".
    for index, what in enumerate(("operand", "second")):
        fxp = operands[index] if index < len(operands) else None
        if fxp is None or (index and name == "ditto.softmax") or not ir.is_float(op.operands[index]):
            continue
        if seen is None or what in seen.facts:
            yield _row(place, what, fxp, _operand_limit(op, fxp, out, secret), seen, what)
    if operands[0] is not None:
        yield from _kernel(op, place, operands[0], out, seen)


def _operand_limit(op: ir.Op, fxp: Fxp, out: Fxp, secret: dict[ir.Value, bool]) -> float:
    """How large an operand of a kernel may be: half of what its format holds, less what the kernel adds."""
    name, approx = op_name(op), ir.attribute(op, "ditto.approx")
    if name == "ditto.softmax":
        attributes = ir.composite_attributes(op)
        hidden = len(op.operands) > 1 and secret[op.operands[1]]
        shape, scale = ir.shape(op.operands[0]), float(attributes["scale"])
        if approx == "2quad":
            return min(fxp.limit / 2, (2.0**10 - 5) / abs(scale))
        return largest_score(fxp, out, shape[attributes["dim"]], scale, hidden, approx or "exact")
    if approx in ("puma", "even"):
        return fxp.limit - 4
    if approx == "quad":  # (x + 1)^2 + 3 < 2^(k - 2 - 2f)
        ring = 32 if fxp.ring_bits <= 32 and fxp.fraction_bits <= 10 else 64
        return min(fxp.limit / 2, math.sqrt(2.0 ** (ring - 2 - 2 * fxp.fraction_bits) - 3) - 1)
    return windowed_room(name, fxp) if name in WINDOWED else fxp.limit / 2


def _kernel(op: ir.Op, place: tuple[str, str], fxp: Fxp, out: Fxp, seen: Observed | None) -> Iterator[Range]:
    """Ranges beyond those of formats."""
    name, declared = op_name(op), ir.attribute(op, "ditto.range")
    if name == "ditto.layer_norm":
        yield _row(place, "variance", fxp, VARIANCE[1], seen, "variance", VARIANCE[0])
        yield _row(place, "mean", fxp, 2.0 ** (27 - fxp.fraction_bits), seen, "mean")
        yield _row(place, "normalised", out, min(_NORM_TOP, out.limit), seen)
    elif name == "ditto.rms_norm":
        yield _row(place, "mean square", fxp, MEAN_SQUARE[1], seen, "mean square", MEAN_SQUARE[0])
        yield _row(place, "normalised", out, min(_NORM_TOP, out.limit), seen)
    elif name == "stablehlo.maximum" or (name == "stablehlo.reduce" and place[1] == "maximum"):
        yield _row(place, "difference", fxp, fxp.limit, seen, "difference")
    elif name == "stablehlo.divide":
        yield _row(place, "divisor", fxp, _RECIPROCAL[1], seen, "second", _RECIPROCAL[0])
    elif name == "stablehlo.rsqrt":
        yield _row(place, "argument", fxp, _RSQRT[1], seen, "operand", _RSQRT[0])
    elif name == "stablehlo.exponential":
        high = math.log(float(declared)) if declared else _EXP[1]
        yield _row(place, "exponent", fxp, high, seen, "operand", -math.inf)
