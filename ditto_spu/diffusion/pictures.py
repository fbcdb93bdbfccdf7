"""Show pictures and compare them: grids, PNG files, blocks of a terminal, and the signal-to-noise ratio."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError, require_whole

_PEAK = 2.0  # pixels lie from -1 to 1
_SHADES = " ░▒▓█"


def pixels(pictures: Any) -> NDArray[np.uint8]:
    """Return pictures from -1 to 1 as bytes from 0 to 255. Values beyond are cut off."""
    values = np.clip(np.asarray(pictures, np.float64), -1, 1)
    if np.isnan(values).any():
        raise InputError("pictures hold NaN: give numbers from -1 to 1")
    return np.rint((values + 1) * 127.5).astype(np.uint8)


def grid(pictures: Any, columns: int | None = None, gap: int = 1) -> NDArray[np.uint8]:
    """Return pictures [count, height, width, channels] as one picture [height, width, channels] of bytes.

    columns: how many lie side by side. By default the grid is about as wide as high.
    gap: white pixels around every picture.
    """
    made = pixels(pictures)
    if made.ndim != 4 or not made.size:
        raise InputError(f"pictures of shape {made.shape}: give [count, height, width, channels]")
    count, height, width, channels = made.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    require_whole(columns=columns)
    if columns < 1:
        raise InputError(f"columns is {columns}: a grid has at least one")
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for place, each in enumerate(made):
        row, column = divmod(place, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = each
    return sheet


def save_png(path: str | Path, pictures: Any, columns: int | None = None, zoom: int = 1) -> None:
    """Write pictures [count, height, width, 1 or 3] from -1 to 1 to a PNG file, as a grid.

    zoom: every pixel becomes a square of that many pixels.
    Raises InputError for other pictures, without Pillow, and for a file that cannot be written.
    """
    require_whole(zoom=zoom)
    if zoom < 1:
        raise InputError(f"zoom is {zoom}: a pixel becomes a square of at least one")
    sheet = grid(pictures, columns).repeat(zoom, axis=0).repeat(zoom, axis=1)
    if sheet.shape[-1] not in (1, 3):
        raise InputError(f"a PNG holds pictures of 1 or 3 channels, not {sheet.shape[-1]}")
    try:
        from PIL import Image
    except ImportError:
        raise InputError("PNG files need Pillow: pip install 'ditto-spu[pictures]'") from None
    image = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    try:
        image.save(path, format="PNG")
    except OSError as error:
        raise InputError(f"'{path}' cannot be written ({error.strerror or error})") from None


def blocks(pictures: Any, columns: int | None = None) -> str:
    """Return pictures as lines of shaded blocks for a terminal, two characters a pixel."""
    sheet = grid(pictures, columns).mean(axis=-1)
    shades = np.minimum((sheet * len(_SHADES) / 256).astype(int), len(_SHADES) - 1)
    return "\n".join("".join(2 * _SHADES[each] for each in row) for row in shades)


def psnr(pictures: Any, expected: Any) -> float:
    """Return the peak signal-to-noise ratio of pictures from -1 to 1, in dB; infinite for equal ones."""
    error = float(np.mean((np.asarray(pictures, np.float64) - np.asarray(expected, np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)
