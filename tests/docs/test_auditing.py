"""docs/auditing.md names every message that a kernel sends, and its table of kernels is up to date."""

import re
from pathlib import Path

from bench.audit_table import DOCUMENT, Message, all_messages, rewritten

ROOT = Path(__file__).parent.parent.parent
TEXT = DOCUMENT.read_text()
ROW = re.compile(r"^\| (`.*) \| (online|offline) \| (.*) \| .* \| .* \|$", re.MULTILINE)
REMASKED = {Message("remask", "online", way) for way in ("A → B", "B → A")}  # sent between steps of a plan


def named() -> set[Message]:
    return {
        Message(kind, phase, way)
        for kinds, phase, ways in ROW.findall(TEXT)
        for kind in re.findall(r"`([^`]+)`", kinds)
        for way in ways.split(", ")
    }


def test_every_message_of_every_kernel_is_named_and_no_other():
    assert set().union(*all_messages().values()) | REMASKED == named()


def test_the_table_of_kernels_is_up_to_date():
    assert rewritten(TEXT) == TEXT, "run python -m bench.audit_table"


def test_files_that_the_page_names_exist():
    for file in re.findall(r"`([\w/]+/\w+\.py)`", TEXT):
        assert (ROOT / file).exists(), file
