"""In replicated sharing over Z_2^k, x = x_0 + x_1 + x_2, and party i holds (x_i, x_{i+1})."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Array, Fxp

PARTIES = 3


@dataclass(frozen=True)
class Rss:
    """One party's shares of a tensor: `mine` is component i, and `next` is component i + 1 (mod 3).

    `prepared` has the forms that kernels keep of a tensor that serves many calls, such as weights. If it is
    None, they keep nothing.
    """

    mine: Array
    next: Array
    fxp: Fxp
    prepared: dict[Any, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mine.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def reshape(self, shape: Sequence[int]) -> Rss:
        return Rss(self.mine.reshape(shape), self.next.reshape(shape), self.fxp)

    def retagged(self, fxp: Fxp) -> Rss:
        """Read the same ring elements with other fraction bits: a free multiplication by a power of two.

        Raises ValueError if the ring would change.
        """
        if fxp.ring_bits != self.fxp.ring_bits:
            raise ValueError(f"retagging {self.fxp} as {fxp} would change the ring; use a cast")
        return Rss(self.mine, self.next, fxp)

    def kept(self) -> Rss:
        """Return the same shares with a place where kernels may keep prepared forms."""
        return replace(self, prepared={})


@dataclass(frozen=True)
class Known:
    """A public tensor that serves many calls, such as public weights. Kernels keep prepared forms of it."""

    value: Array
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.value.dtype)

    @property
    def nbytes(self) -> int:
        return int(self.value.nbytes)

    def __array__(self, dtype: Any = None) -> NDArray[Any]:
        return np.asarray(self.value, dtype)


def share(elements: NDArray[Any], fxp: Fxp, random_bytes: Any, dealer: int = 0) -> tuple[Rss, Rss, Rss]:
    """Split ring elements into the shares of three parties. The client does this.

    `random_bytes(n)` is a cryptographic source. The two components of `dealer` are drawn, whatever the
    elements are. They are therefore masks, as masked shares need them.
    """
    value = np.asarray(elements, dtype=fxp.dtype, order="C")
    first, second = (
        np.frombuffer(random_bytes(value.nbytes), dtype=fxp.dtype).reshape(value.shape) for _ in range(2)
    )
    drawn = (first, second, value - first - second)
    x0, x1, x2 = (drawn[(component - dealer) % PARTIES] for component in range(PARTIES))
    return Rss(x0, x1, fxp), Rss(x1, x2, fxp), Rss(x2, x0, fxp)


def reconstruct(parts: Sequence[Rss]) -> NDArray[Any]:
    """Join the shares of three parties. The client does this.

    Raises ValueError if the two holders of a component have different ones.
    """
    for rank in range(PARTIES):
        if not np.array_equal(parts[rank].next, parts[(rank + 1) % PARTIES].mine):
            raise ValueError(
                f"component {(rank + 1) % PARTIES} differs between its two holders: corrupted shares"
            )
    # The parts are stacked, because numpy would widen the sum of scalars instead of wrapping it.
    return np.asarray(np.sum(np.stack([part.mine for part in parts]), axis=0, dtype=parts[0].fxp.dtype))
