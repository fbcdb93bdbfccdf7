"""The operations in configs/README.md, from their records; `python -m bench.op_table` writes them anew."""

from __future__ import annotations

from pathlib import Path

from ditto_spu.ops import OPS
from ditto_spu.rules.rule import APPROXIMATIONS, SUBJECTS, TAKES

DOCUMENT = Path(__file__).parent.parent / "configs" / "README.md"
START, STOP = "<!-- operations -->\n", "<!-- end -->"


def table() -> str:
    """Return the rows of the document: one per op that a rule may name."""
    lines = ["| op | meaning | a rule may set | approximations, the default first |", "|---|---|---|---|"]
    for name, summary in SUBJECTS.items():
        values = ", ".join(f"`{each}`" for each in TAKES[name])
        approximations = ", ".join(
            f"`{each}`" + (" (needs training)" if OPS[name].approximations[each].needs_training else "")
            for each in APPROXIMATIONS.get(name, ())
        )
        lines.append(f"| `{name}` | {summary} | {values} | {approximations} |")
    return "\n".join(lines) + "\n"


def rewritten(document: str) -> str:
    """Return the document with the table that the records give now."""
    before, after = document.index(START) + len(START), document.index(STOP)
    return document[:before] + table() + document[after:]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
