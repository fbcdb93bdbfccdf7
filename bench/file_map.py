"""The map of files in docs/architecture.md, from docstrings; `python -m bench.file_map` writes it anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "architecture.md"
START, STOP = "<!-- files -->\n", "<!-- end -->"
TOPS = ("kernels", "ditto_spu")


def sentence(file: Path) -> str:
    """Return the first sentence of a file's docstring, on one line."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def rooms(top: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield each folder of code with its files, the folder's own `__init__` first."""
    folders = sorted({file.parent for file in (ROOT / top).rglob("*.py")})
    for folder in folders:
        files = sorted(folder.glob("*.py"), key=lambda file: (file.name != "__init__.py", file.name))
        yield str(folder.relative_to(ROOT)), files


def table() -> str:
    """Return the map: a heading with a table for each room, a row for each file."""
    lines: list[str] = []
    for top in TOPS:
        for room, files in rooms(top):
            front, *rest = files
            lines += [f"### `{room}/`", "", f"{sentence(front)}.", ""]
            if rest:
                lines += ["| file | contents |", "|---|---|"]
                lines += [f"| `{file.name}` | {sentence(file)} |" for file in rest]
                lines.append("")
    return "\n".join(lines)


def rewritten(document: str) -> str:
    """Return the document with the map of the files that there are now."""
    before, after = document.index(START) + len(START), document.index(STOP)
    return document[:before] + table() + document[after:]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
