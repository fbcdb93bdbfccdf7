"""`ditto sample` draws pictures, writes them, and names mistakes before anything runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ditto_spu import models
from ditto_spu.cli import app
from ditto_spu.diffusion.denoiser import Denoiser
from ditto_spu.diffusion.schedule import Schedule
from ditto_spu.models import NamedModel, Pictures


def small() -> Pictures:
    """Return a model that takes a part of every picture, more for the second class, for its noise."""
    return Pictures(
        Denoiser(
            lambda params, times: params["part"][None] + 0 * times[:, None, None],
            lambda params, x, condition, labels: x * (labels @ condition)[:, None, None, :],
            labels=3,
        ),
        {"part": np.array([[0.5], [0.9], [0.7]], np.float32)},
        (2, 3, 1),
        Schedule(),
        2,
    )


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    named = NamedModel("small", "for this test", lambda: None, "here", pictures=small)  # type: ignore[arg-type]
    monkeypatch.setitem(models.MODELS, "small", named)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sample", *arguments])


def test_pictures_go_to_a_file_or_to_the_terminal(tmp_path: Path) -> None:
    drawn = run("small", "--labels", "0,1", "--steps", "2", "--seed", "3", "--json")
    made = json.loads(drawn.stdout)
    assert np.shape(made["pictures"]) == (2, 2, 3, 1)
    assert [step["step"] for step in made["steps"]] == [1, 2]
    written = run("small", "--labels", "0,1", "--steps", "2", "--seed", "3", "--out", str(tmp_path / "a.png"))
    assert written.exit_code == 0 and "wrote" in written.stdout
    assert Image.open(tmp_path / "a.png").size == (8 * 9, 8 * 4)
    shown = run("small", "--count", "1", "--steps", "1")
    assert shown.stdout.count("██") > 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("gelu",), "draws no pictures"),
        (("small", "--labels", "a"), "no list of classes"),
        (("small", "--labels", "5"), "0 to 1"),
        (("small", "--labels", "1", "--count", "2"), "labels are 2 integers"),
        (("small", "--steps", "0"), "1 to 1000"),
        (("small", "--method", "euler"), "choose ddim or ddpm"),
        (("small", "--out", "/nowhere/at/all.png"), "there is no folder"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], reason: str) -> None:
    failed = run(*arguments)
    assert failed.exit_code == 2
    assert reason in failed.stderr
