"""Fixed-point formats over the rings Z_2^k say how reals are encoded as ring elements and decoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ditto_kernels.values.absent import absent, is_absent

RINGS = (8, 16, 32, 64)
_FORMAT = re.compile(r"fxp(\d+)\.(\d+)")

Array = NDArray[Any]  # It holds ring elements, bits or real numbers, or is absent.
Rows = Array | Sequence[Array]  # The arrays of a sequence have one shape and type.


@dataclass(frozen=True, order=True)
class Fxp:
    """A fixed-point format: a value v is the integer round(v * 2^fraction_bits) in Z_2^ring_bits.

    Raises ValueError for a ring that is not in RINGS, and for fraction bits that do not fit the ring.
    """

    ring_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if self.ring_bits not in RINGS:
            raise ValueError(f"ring of {self.ring_bits} bits: choose one of {', '.join(map(str, RINGS))}")
        if not 0 <= self.fraction_bits < self.ring_bits:
            raise ValueError(
                f"{self.fraction_bits} fraction bits do not fit a ring of {self.ring_bits} bits: "
                f"choose 0 to {self.ring_bits - 1}"
            )

    @classmethod
    def parse(cls, text: str) -> Fxp:
        """Read a format such as `fxp32.12`. Raises ValueError for any other text."""
        match = _FORMAT.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"'{text}' is not a format: write fxp<ring bits>.<fraction bits>, such as fxp32.12"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"fxp{self.ring_bits}.{self.fraction_bits}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The signed integer type that holds one ring element."""
        return signed(self.ring_bits)

    @property
    def limit(self) -> float:
        """The bound below which magnitudes are representable."""
        return 2.0 ** (self.ring_bits - 1 - self.fraction_bits)

    @property
    def ulp(self) -> float:
        """The distance of two neighbouring values."""
        return 2.0**-self.fraction_bits


@cache
def signed(bits: int) -> np.dtype[Any]:
    """Return the numpy type of signed integers of so many bits."""
    return np.dtype(f"int{bits}")


@cache
def unsigned(bits: int) -> np.dtype[Any]:
    """Return the numpy type of unsigned integers of so many bits."""
    return np.dtype(f"uint{bits}")


@cache
def container_bits(bits: int) -> int:
    """Return the smallest ring that holds so many bits. Masks always fill the whole container."""
    return next(ring for ring in RINGS if ring >= bits)


def encode(values: ArrayLike, fxp: Fxp) -> NDArray[Any]:
    """Round values to the grid of `fxp` (ties to even) and return ring elements.

    Raises ValueError for NaN, infinity and values out of range.
    """
    if is_absent(values):
        return absent(np.shape(values), fxp.dtype)
    real = np.asarray(values, dtype=np.float64)
    scaled = np.asarray(real * 2.0**fxp.fraction_bits)
    np.rint(scaled, out=scaled)
    bound = 2.0 ** (fxp.ring_bits - 1)
    if scaled.size and not (scaled.max() < bound and scaled.min() >= -bound):  # NaN fails both tests.
        if not np.all(np.isfinite(real)):
            raise ValueError(
                "NaN or infinity cannot be encoded in fixed point: choose a finite number with jnp.where"
            )
        worst = float(np.max(np.abs(real)))
        raise ValueError(f"magnitude {worst:g} does not fit {fxp}, which holds values below {fxp.limit:g}")
    return scaled.astype(fxp.dtype)


def decode(elements: Array, fxp: Fxp) -> NDArray[np.float64]:
    """Return the real values of ring elements."""
    return np.asarray(elements).astype(np.float64) * 2.0**-fxp.fraction_bits
