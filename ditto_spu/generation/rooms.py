"""Choose the sizes for which programs are compiled: few, and not much larger than the texts."""

from __future__ import annotations

BLOCK = 64  # places of the smallest cache


def room(places: int, most: int) -> int:
    """Return the size of a cache for so many places.

    It is the least of 64, 128, 256, ... that suffices, or `most` where that is less. So a step pays for at
    most twice the text so far, and each doubling compiles one more program.
    """
    size = BLOCK
    while size < places:
        size *= 2
    return min(size, most)


def tokens(count: int, most: int) -> int:
    """Return to how many tokens a pass over `count` of them is padded, which are `most` at most.

    One stays one. Up to 64 it is the next multiple of 8, and then one of four sizes an octave.
    """
    if count == 1:
        return 1
    step = max(8, 2 ** ((count - 1).bit_length() - 3))
    return min(-(-count // step) * step, most)
