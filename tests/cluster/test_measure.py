"""Tests measurements of three processes over an emulated network: costs, and the report of them."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ditto_spu.cli import app
from ditto_spu.cluster.measure import Measured
from ditto_spu.network.model import WAN
from ditto_spu.plan.cost_report import CostReport, CostRow

ROW = CostRow(0, "a", "matmul", "fxp32.12", 0, (50_000_000, 0, 0), rounds=10, seconds=0.5)


def text(shown) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_what_was_measured_stands_beside_the_prediction():
    measured = Measured(CostReport((ROW,), 2.5, network=WAN), 2.4, 2.5, 1.0, 2.0)
    shown = text(measured)
    assert "WAN (400 Mbps, 40 ms): 2.400 s at the parties, 2.500 s at the client; 1.000 s by three" in shown
    assert "predicted 2.000 s; measured / predicted 1.20" in shown
    data = json.loads(json.dumps(measured.as_dicts()))
    assert (data["network"], data["seconds"], data["predicted_seconds"]) == (WAN.name, 2.4, 2.0)
    assert "measured / predicted" not in text(Measured(CostReport((ROW,), 0.5), 0.4, 0.5, 0.3, None))


@pytest.mark.slow
def test_a_model_runs_on_an_emulated_network():
    done = CliRunner().invoke(app, ["run", "gelu", "--network", "bandwidth=2Gbps,rtt=2ms", "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["network"] == "2 Gbps, 2 ms"
    alone = json.loads(CliRunner().invoke(app, ["run", "gelu", "--json"]).stdout)
    assert data["rounds"] == alone["rounds"] > 0
    assert data["seconds"] > data["rounds"] * 0.001  # each takes half a round trip at least
    assert sum(data["bytes_sent_per_party"]) == sum(alone["bytes_sent_per_party"])
    assert data["predicted_seconds"] > data["threads_seconds"] > 0
