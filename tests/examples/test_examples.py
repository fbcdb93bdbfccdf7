"""Every example runs, prints its result, and gives what the plain function gives."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(capsys):
    """Run an example's `main`; returns its values and what it printed."""

    def run_example(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main(), capsys.readouterr().out

    return run_example


def test_plain_function(run):
    values, printed = run("plain_function")
    np.testing.assert_allclose(values["expected"], [0.3875, 0.4407, 0.4220], atol=1e-4)
    np.testing.assert_allclose(values["outputs"], values["expected"], atol=0.003)
    assert "public float32[3]  scale" in values["plan"] and "fxp32.11[3,3]  records" in values["plan"]
    assert values["report"].rounds > 0 and min(values["report"].bytes_sent_per_party) > 0
    assert "0.3875 in plaintext" in printed and values["plan"] in printed


def test_flax_model(run):
    values, printed = run("flax_model")
    np.testing.assert_allclose(
        values["expected"], [[-0.664, -0.068, -1.266], [-0.181, 0.358, -1.386]], atol=1e-3
    )
    np.testing.assert_allclose(values["outputs"], values["expected"], atol=0.008)
    assert "client:Embed_0" in str(values["ownership"])
    assert values["report"].hoisted["client"] > 0  # the client makes its one-hot rows in plaintext
    assert "text 1: class 1 from three parties, 1 in plaintext" in printed


def test_choose_formats(run):
    values, printed = run("choose_formats")
    np.testing.assert_allclose(values["expected"][0, :3], [0.7319, -1.5580, 2.7290], atol=1e-3)
    np.testing.assert_allclose(values["outputs"], values["expected"], atol=0.012)
    assert 4 < values["seen"].most < 6 and -6 < values["seen"].least < -4
    wide, narrow = (values["comparison"].row(name) for name in ("uniform64", "mine"))
    assert wide.max_abs_error < narrow.max_abs_error < 0.012
    assert max(narrow.bytes_sent_per_party) < max(wide.bytes_sent_per_party) / 2
    assert re.match(
        r"matmul at 'down' \(.*choose_formats.py:\d+\): declared range reached", values["refused"]
    )
    assert values["refused"] in printed


def test_work_offline(run):
    values, printed = run("work_offline")
    np.testing.assert_allclose(values["expected"][0, :3], [0.1013, 0.0416, 0.1153], atol=1e-3)
    for outputs in (values["outputs"], values["whole"]):
        np.testing.assert_allclose(outputs, values["expected"], atol=0.012)
        np.testing.assert_allclose(outputs.sum(-1), 1, atol=0.05)
    online = values["report"].online_bytes_sent_per_party
    offline = values["report"].offline_bytes_sent_per_party
    # The dealer sends in the offline phase alone, and the two others in the online phase alone.
    assert [sent > 0 for sent in online] == [sent == 0 for sent in offline]
    assert sum(sent > 0 for sent in offline) == 1
    assert values["report"].offline_seconds > 0
    assert "spent" in values["refused"] and values["refused"] in printed


def test_the_readme_names_every_example_and_every_example_is_tested():
    names = {file.stem for file in FOLDER.glob("*.py")}
    readme = (FOLDER / "README.md").read_text()
    assert all(f"({name}.py)" in readme for name in names)
    assert {f"test_{name}" for name in names} <= set(globals())
