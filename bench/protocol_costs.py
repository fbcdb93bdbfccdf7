"""The cost tables of the page on protocols; `python -m bench.protocol_costs` writes them anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ditto_kernels import KERNELS
from ditto_kernels.activation import series
from ditto_kernels.activation.series_tables import GELU
from ditto_kernels.bits import one_hot_digits, select, signs, table_lookup
from ditto_kernels.bits.bit_planes import Bits, word_count
from ditto_kernels.maximum import tournament
from ditto_kernels.products import multiply
from ditto_kernels.protocol import party
from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.sharing import additive, casts
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, signed, unsigned

DOCUMENT = Path(__file__).parent.parent / "docs" / "protocols" / "README.md"
ELEMENTS = 1 << 14
_MODULES = (additive, casts, multiply, one_hot_digits, party, select, series, signs, table_lookup, tournament)


def _elements(ring: int, *lead: int) -> Array:
    return absent((*lead, ELEMENTS), signed(ring))


def _bits(word_bits: int) -> Bits:
    return Bits(absent((1, word_count(ELEMENTS, word_bits)), unsigned(word_bits)), word_bits)


# What the cells of the tables may say; operands have n elements, or n for each of a leading dimension.
_NAMES: dict[str, Any] = {
    **{name: value for module in _MODULES for name, value in vars(module).items() if callable(value)},
    "F": Fxp.parse,
    "DOT": (((1,), (0,)), ((), ())),
    "GELU": GELU,
    "n": ELEMENTS,
    "bits": _bits,
    "elements": _elements,
    "halves": lambda ring: (_elements(ring),) * 2,
    "opened": lambda ring: Opened(_elements(ring), _elements(ring), Fxp(ring, ring // 2)),
    "shared": lambda fxp: Spec((ELEMENTS,), Fxp.parse(fxp)),
    "sharing": lambda ring, *lead: Additive(_elements(ring, *lead), Fxp(ring, 0)),
    "signed": signed,
}
_Row = dict[str, str]


def rows(document: str, heading: str) -> list[_Row]:
    """The rows of the table whose first column has that heading, by column."""
    lines = document.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    stop = next(place for place in range(start, len(lines)) if not lines[place].startswith("|"))
    table = [_cells(line) for line in lines[start:stop]]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def _evaluated(expression: str) -> Any:
    return eval(expression, dict(_NAMES))


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


def _spec(text: str) -> Spec:
    size, fxp = text.split(":")
    return Spec(_shape(size), None if fxp == "public" else Fxp.parse(fxp))


def _figures(cost: Cost, elements: int) -> _Row:
    bits = (8 * sum(sent) / elements for sent in (cost.online, cost.offline))
    online, offline = (f"{each:.1f}".removesuffix(".0") for each in bits)
    return {"online": online, "offline": offline, "rounds": str(cost.rounds)}


def block_figures(row: _Row) -> _Row:
    """What a row of the table of building blocks should say."""
    protocol, operands = (row[column].strip("`") for column in ("protocol", "at n elements"))
    return _figures(eval(f"cost_of({protocol}, {operands})", {**_NAMES, "cost_of": cost_of}), ELEMENTS)


def kernel_figures(row: _Row) -> _Row:
    """What a row of the table of kernels should say; the error bound is rounded up to two digits."""
    kernel, out = KERNELS[row["kernel"]], Fxp.parse(row["out"])
    operands = [_spec(each) for each in row["operands"].strip("`").split()]
    attributes = _evaluated(f"dict({row['attributes'].strip('`')})")
    bound = kernel.error(*operands, out=out, **attributes)
    figures = _figures(kernel.cost(*operands, out=out, **attributes), math.prod(_shape(row["per"])))
    return figures | {"error": _rounded_up(bound)}


def _rounded_up(bound: float) -> str:
    if not bound:
        return "0"
    step = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return f"{math.ceil(bound / step - 1e-9) * step:.2g}"


def rewritten(document: str) -> str:
    """The document with the numbers of both tables as the code has them."""
    for heading, figures in (("block", block_figures), ("kernel", kernel_figures)):
        for row in rows(document, heading):
            before = "| " + " | ".join(row.values()) + " |"
            after = "| " + " | ".join((row | figures(row)).values()) + " |"
            document = document.replace(_tight(before), _tight(after))
    return document


def _tight(line: str) -> str:
    """Empty cells as the document writes them."""
    return line.replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
