"""Tests cost reports: totals, stages that share rounds, predictions, plain data and the printed table."""

import json

import pytest

from ditto_spu.network.model import LAN, WAN, Network
from ditto_spu.network.run_time import EXCHANGE_SECONDS
from ditto_spu.plan.cost_report import CostReport, CostRow

MATMUL = CostRow(0, "a", "matmul", "fxp32.12", 0, (1000, 2000, 3000), (0, 0, 600), (2, 2, 2), 2, 0.5)
CAST = CostRow(1, "b", "cast", "fxp64.12", 1, (100, 100, 0), (0, 0, 50), (1, 1, 1), 1, 0.25)
LOCAL = CostRow(2, "c", "local", "fxp64.12", 2)
SPU = CostRow(3, "d", "spu", "fxp64.18", 3, (9, 9, 9), (0, 0, 0), (4, 4, 4), None, 0.1, "measured")


def test_an_empty_report():
    report = CostReport(())
    assert report.bytes_sent_per_party == (0, 0, 0)
    assert report.rounds == 0
    assert report.by_kind() == {}
    assert "total" in str(report)


def test_totals_add_up_and_offline_is_apart():
    report = CostReport((MATMUL, CAST, LOCAL), seconds=1.0)
    assert report.online_bytes_sent_per_party == (1100, 2100, 3000)
    assert report.offline_bytes_sent_per_party == (0, 0, 650)
    assert report.bytes_sent_per_party == (1100, 2100, 3650)
    assert report.messages_per_party == (3, 3, 3)
    assert report.rounds == 3


def test_steps_of_one_stage_share_rounds():
    other = CostRow(1, "b", "matmul", "fxp32.12", 0, rounds=3)
    assert CostReport((MATMUL, other, CAST)).rounds == 4


def test_rounds_of_spu_are_unknown_and_so_is_a_prediction():
    report = CostReport((MATMUL, SPU))
    assert report.rounds is None
    assert report.predicted_seconds(LAN) is None


def test_a_prediction_adds_the_busiest_party_of_each_stage():
    report = CostReport((MATMUL, CAST), seconds=2.0)
    near = Network("", 8 * (3600 + 100), 0.0)  # dealt material goes in line
    assert report.predicted_seconds(near) == pytest.approx(2.0 + 1.0 + 3 * EXCHANGE_SECONDS)
    far = Network("", 8 * (3000 + 100 + 650), 4.0)  # dealt material travels behind the stages
    assert report.predicted_seconds(far) == pytest.approx(2.0 + 1.0 + 3 * (2.0 + EXCHANGE_SECONDS))
    assert report.predicted_seconds(far, calls=4) < report.predicted_seconds(far) + 3 * (2.0 + 1.0)
    assert report.predicted_seconds(WAN) > report.predicted_seconds(LAN)


def test_a_run_on_a_network_predicts_nothing_more():
    report = CostReport((MATMUL, CAST), seconds=2.0, network=WAN)
    assert report.predicted_seconds(LAN) is None
    assert report.as_dicts()["network"] == WAN.name
    assert "predicted" not in str(report)


def test_kinds_are_ordered_by_bytes():
    kinds = CostReport((CAST, MATMUL, MATMUL, LOCAL)).by_kind()
    assert list(kinds) == ["matmul", "cast", "local"]
    assert kinds["matmul"].online_bytes == (2000, 4000, 6000)


def test_plain_data_is_json():
    data = json.loads(json.dumps(CostReport((MATMUL, SPU), 1.5).as_dicts()))
    assert data["seconds"] == 1.5 and data["rounds"] is None
    assert data["rows"][0]["online_bytes"] == [1000, 2000, 3000]
    assert set(data["predicted_seconds"]) == {LAN.name, WAN.name}


def test_the_table_shows_what_costs_and_marks_what_is_unknown():
    unknown = CostRow(4, "e", "spu", "fxp64.18", 4, rounds=None, source="unknown")
    lines = str(CostReport((MATMUL, LOCAL, SPU, unknown), 1.0)).splitlines()
    assert [line.split()[2] for line in lines if line.split()[:1] and line.split()[0].isdigit()] == [
        "matmul",
        "spu",
        "spu",
    ]
    assert any(line.split()[:4] == ["3", "d", "spu", "fxp64.18"] and "?" in line for line in lines)
    assert any(line.split()[:1] == ["4"] and line.count("?") == 4 for line in lines)
    assert "predicted" not in str(CostReport((SPU,)))
    assert "LAN (5 Gbps, 0.4 ms)" in str(CostReport((MATMUL,)))
