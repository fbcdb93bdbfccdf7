"""The comparison table and its measures of accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from ditto_spu.compare.table import PLAINTEXT, PUMA, Comparison, ComparisonRow, accuracy
from ditto_spu.network.model import LAN, WAN


def test_accuracy() -> None:
    x = np.array([[3.0, 4.0], [1.0, 0.0]])
    y = np.array([[3.0, 4.0], [1.0, 1.0]])
    measured = accuracy([y, 5.0], [x, 5.5])
    assert measured["max_abs_error"] == 1
    assert measured["mean_abs_error"] == pytest.approx(1.5 / 5)
    assert measured["cosine"] == pytest.approx(2**-0.5)


def test_accuracy_of_nothing_and_of_zeros() -> None:
    perfect = {"max_abs_error": 0.0, "mean_abs_error": 0.0, "cosine": 1.0}
    assert accuracy([], []) == accuracy([np.zeros((0, 3))], [np.zeros((0, 3))]) == perfect
    assert accuracy([np.zeros(3)], [np.zeros(3)]) == perfect


def test_speed_up_is_per_item() -> None:
    ours = ComparisonRow(
        config="ditto",
        seconds=11.0,
        items=11,
        bytes_sent_per_party=(10**6, 2 * 10**6, 3 * 10**6),
        rounds=1234,
    )
    puma = ComparisonRow(config=PUMA, seconds=25.0, note="one sentence")
    part = ComparisonRow(config="embedding alone", seconds=16.0, part_of=PUMA)
    table = Comparison((ComparisonRow(config=PLAINTEXT, seconds=0.1), ours, puma, part), item="sentence")
    assert [row["speed_up"] for row in table.as_dicts()] == [None, 25.0, 1.0, None]
    text = str(table)
    assert "puma: one sentence" in text and "25.0x" in text and "2.0" in text and "1,234" in text
    assert Comparison((ours,)).speed_up(ours) is None


def test_predicted_times_follow_the_stated_model():
    row = ComparisonRow(
        config="ditto", seconds=1.0, items=2, bytes_sent_per_party=(50_000_000, 0, 0), rounds=100
    )
    puma = ComparisonRow(
        config="puma", seconds=1.0, bytes_sent_per_party=(50_000_000, 0, 0), messages_per_party=(100, 90, 80)
    )
    table = Comparison((row, puma))
    # 400 Mbit at 400 Mbps take one second, and 100 rounds at 40 ms take two.
    assert table.predicted(row, WAN) == pytest.approx((1.0 + 1.0 + 2.0) / 2)
    assert table.predicted(puma, WAN) == pytest.approx(4.0)
    assert table.predicted(ComparisonRow(config="plaintext", seconds=1.0), WAN) is None
    assert table.as_dicts()[0]["predicted_seconds"][LAN.name] == pytest.approx((1.0 + 0.08 + 0.02) / 2)
