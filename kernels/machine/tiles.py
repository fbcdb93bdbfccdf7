"""The sizes of the pieces in which generated code multiplies matrices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """The sizes of tiles in one ring, and of the blocks that stay in the caches.

    lanes: elements of a vector. vectors: vectors of a panel of the right operand. heights: rows of panels of
    the left operand, from high to low, down to 1. terms: summed in one block. rows: of one block, a multiple
    of the highest panel, so that blocks begin where panels do.
    """

    bits: int
    lanes: int
    vectors: int
    heights: tuple[int, ...]
    terms: int = 512
    rows: int = 128

    @property
    def width(self) -> int:
        """The number of columns of a tile."""
        return self.lanes * self.vectors

    @property
    def element(self) -> str:
        return f"i{self.bits}"

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x i{self.bits}>"
