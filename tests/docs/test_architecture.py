"""docs/architecture.md is whole: every file has its line, every pass its row, every floor its rooms."""

import re

from bench.file_map import DOCUMENT, ROOT, rewritten
from ditto_spu.passes.pipeline import PIPELINE
from tests.test_fences import FLOORS, KERNEL_FLOORS

TEXT = DOCUMENT.read_text()


def test_the_map_names_every_file():
    assert rewritten(TEXT) == TEXT, "run python -m bench.file_map"


def test_the_passes_are_those_of_the_pipeline():
    rows = re.search(r"\| pass \| does \|\n\|---\|---\|\n((?:\|.*\n)+)", TEXT)
    assert rows is not None
    assert rows[1] == "".join(f"| `{each.name}` | {each.does} |\n" for each in PIPELINE)


def test_the_floors_are_those_of_the_fences():
    cells = [
        [cell.strip() for cell in line.split("|")]
        for line in TEXT.splitlines()
        if re.match(r"\| \d+ \| `", line)
    ]
    for column, floors in ((1, FLOORS), (4, KERNEL_FLOORS)):
        shown = {int(row[column]): re.findall(r"`(\w+)`", row[column + 1]) for row in cells if row[column]}
        assert shown == {place + 1: list(rooms) for place, rooms in enumerate(floors)}


def test_every_file_that_the_prose_names_exists():
    prose = TEXT[: TEXT.index("## Every file")]
    names = re.findall(r"`((?:kernels|tests|\w+)(?:/\w+)+\.py)`", prose)
    assert names
    missing = [name for name in names if not any((ROOT / top / name).exists() for top in ("", "ditto_spu"))]
    assert missing == []
