"""Pictures become grids, PNG files and blocks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ditto_spu.diffusion.pictures import blocks, grid, pixels, psnr, save_png
from ditto_spu.errors import InputError

RANDOM = np.random.default_rng(2)
PICTURES = RANDOM.uniform(-1, 1, (5, 4, 3, 1)).astype(np.float32)


def test_pixels_are_rounded_and_cut_off() -> None:
    assert pixels([-3.0, -1.0, 0.0, 1.0, 2.0]).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(("columns", "rows"), [(None, 2), (5, 1), (1, 5), (2, 3)])
def test_a_grid_holds_every_picture_in_order(columns: int | None, rows: int) -> None:
    sheet, across = grid(PICTURES, columns), columns or 3
    assert sheet.shape == (5 * rows + 1, 4 * across + 1, 1)
    for place, each in enumerate(PICTURES):
        row, column = divmod(place, across)
        top, left = 1 + 5 * row, 1 + 4 * column
        assert np.array_equal(sheet[top : top + 4, left : left + 3], pixels(each))
    assert (sheet[0] == 255).all() and (sheet[:, 0] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_opens_again(tmp_path: Path, channels: int) -> None:
    pictures = RANDOM.uniform(-1, 1, (2, 4, 3, channels))
    save_png(tmp_path / "two.png", pictures, zoom=3)
    read = np.asarray(Image.open(tmp_path / "two.png"))
    expected = grid(pictures).repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(read.reshape(expected.shape), expected)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 or 3 channels"):
        save_png(tmp_path / "two.png", np.zeros((1, 2, 2, 2)))
    for wrong, options, reason in (
        (np.full((1, 2, 2, 1), np.nan), {}, "pictures hold NaN"),
        (np.zeros((2, 2, 1)), {}, "give .count, height, width, channels"),
        (PICTURES, {"zoom": 0}, "zoom is 0"),
        (PICTURES, {"columns": 0}, "columns is 0"),
    ):
        with pytest.raises(InputError, match=reason):
            save_png(tmp_path / "wrong.png", wrong, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be written"):
        save_png(tmp_path / "nowhere" / "two.png", PICTURES)


def test_blocks_are_two_characters_a_pixel() -> None:
    lines = blocks(np.array([-1.0, 1.0]).reshape(1, 1, 2, 1)).splitlines()
    assert lines == ["████████", "██  ████", "████████"]


def test_the_ratio_of_signal_to_noise() -> None:
    assert psnr(PICTURES, PICTURES) == np.inf
    assert psnr(PICTURES, PICTURES + 0.02) == pytest.approx(40.0, abs=1e-3)
