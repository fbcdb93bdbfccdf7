"""Headroom: the distance of observed values from the ends of every range on which a protocol relies."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.table import Table

from ditto_spu.calibration.summary import Observed
from ditto_spu.errors import RangeError, RangeWarning
from ditto_spu.ops.decision import Nth
from ditto_spu.ops.op import Span
from ditto_spu.plan.printed import printed
from ditto_spu.rules.rule import WEIGHT

GROUNDS = ("proven", "calibrated", "declared", "unknown")
ROUNDINGS = 2.0**-4  # bits: values that formats and kernels round are a little larger
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
    watch: who finds on hosts that the quantity leaves the range (`WATCHERS`).
    told: whether a kernel has the range from what computes its operand.
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
    watch: str = "nobody"
    told: bool = False

    @property
    def watched(self) -> str:
        """Return who finds on hosts that the quantity leaves the range. Nobody need do so if it is proven.

        It is "owner" for arrays that their owners check, and "guard" for what a plan's guard finds. "chance"
        says that it may miss some, and "ends" that it finds values beyond the formats, but not beyond a
        declared range within them. "nobody" finds the others.
        """
        if self.ground == "proven":
            return "-"
        return "ends" if self.what == "declared range" else self.watch

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
        return None if self.observed is None else self._room(self.observed)

    @property
    def safe(self) -> bool:
        """Whether the range is proven with room for roundings of formats, which intervals do not count."""
        return self.ground == "proven" and self.proven is not None and self._room(self.proven) >= ROUNDINGS

    def _room(self, values: Span) -> float:
        """Return the bits between an interval and the nearer end of the range."""
        low, high = values
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
        ranges with less than 0.25 bits of headroom, but for those that are proven.
        """
        self.refuse()
        thin = [row for row in self.rows if 0 <= _headroom(row) < THIN and not row.safe]
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
        return [
            asdict(row) | {"ground": row.ground, "watched": row.watched, "headroom": row.headroom}
            for row in self.rows
        ]

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("path", "op", "what", "ground", "watched", "observed", "declared", "format", "admits"):
            table.add_column(title)
        table.add_column("headroom bits", justify="right")
        for row in self.rows:
            table.add_row(
                row.path,
                row.name,
                row.what,
                row.ground,
                row.watched,
                "-" if row.observed is None else _span(row.observed),
                "-" if row.declared is None else f"{row.declared:g}",
                row.format,
                _span((row.low, row.high)),
                "-" if row.headroom is None else f"{row.headroom:.2f}",
            )
        grounds = Counter(row.ground for row in self.rows)
        unwatched = sum(row.watched == "nobody" for row in self.rows)
        table.caption = "grounds: " + ", ".join(f"{grounds[each]} {each}" for each in GROUNDS)
        table.caption += f"; on hosts {unwatched} are watched by nobody"
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
        return "a rule declares it, or a calibration saw no more: raise it, or calibrate with such inputs"
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
