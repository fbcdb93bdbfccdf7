"""The table of operations in configs/README.md is the one that the records give."""

from bench.op_table import DOCUMENT, rewritten


def test_the_table_of_operations_is_up_to_date():
    text = DOCUMENT.read_text()
    assert rewritten(text) == text, "run python -m bench.op_table"
