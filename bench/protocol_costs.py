"""The cost tables of docs/protocols/ from the code; `python -m bench.protocol_costs` writes them anew."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from ditto_kernels import KERNELS
from ditto_kernels.activation import series
from ditto_kernels.activation.series_tables import GELU
from ditto_kernels.bits import lifted_select, one_hot_digits, select, signs, table_lookup
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

FOLDER = Path(__file__).parent.parent / "docs" / "protocols"
_MARKED = re.compile(r"(?<=<!-- costs -->\n).*?(?=<!-- end -->)", re.DOTALL)
ELEMENTS = 1 << 14
_MODULES = (
    additive, casts, lifted_select, multiply, one_hot_digits, party, select, series, signs, table_lookup,
    tournament,
)  # fmt: skip


def _elements(ring: int, *lead: int) -> Array:
    return absent((*lead, ELEMENTS), signed(ring))


def _bits(word_bits: int) -> Bits:
    return Bits(absent((1, word_count(ELEMENTS, word_bits)), unsigned(word_bits)), word_bits)


# What the cells of the tables may say; operands have n elements, or n for each of a leading dimension.
_NAMES: dict[str, Any] = {
    **{name: value for module in _MODULES for name, value in vars(module).items() if callable(value)},
    "Bits": Bits,
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


def pages() -> dict[str, str]:
    """Return the text of every page on protocols, by name."""
    return {file.name: file.read_text() for file in sorted(FOLDER.glob("*.md"))}


def marked(page: str) -> list[str]:
    """Return the parts of a page that hold its cost tables, each between two comments."""
    return _MARKED.findall(page)


def rows(text: str, heading: str) -> list[_Row]:
    """Return the rows, by column, of all tables whose first column has that heading."""
    tables = re.findall(rf"^\| {heading} \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
    found = []
    for table in tables:
        columns, _, *lines = [_cells(line) for line in table.splitlines()]
        found += [dict(zip(columns, line, strict=True)) for line in lines]
    return found


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


def rewritten(page: str) -> str:
    """Return the page with the numbers of its cost tables as the code has them."""
    return _MARKED.sub(lambda part: _with_figures(part[0]), page)


def _with_figures(tables: str) -> str:
    for heading, figures in (("block", block_figures), ("kernel", kernel_figures)):
        for row in rows(tables, heading):
            before = "| " + " | ".join(row.values()) + " |"
            after = "| " + " | ".join((row | figures(row)).values()) + " |"
            tables = tables.replace(_tight(before), _tight(after))
    return tables


def _tight(line: str) -> str:
    """Empty cells as the document writes them."""
    return line.replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    for name, page in pages().items():
        (FOLDER / name).write_text(rewritten(page))
