"""Inverse roots of few numbers with a wide range come from dealt tables, without comparing bits.

1/sqrt(v) takes three rounds. The range is cut into windows of four octaves. Window k reads 20 bits of v. The
upper eight of these choose a polynomial of degree 2 in the others. All windows are opened at once. The dealer
deals the polynomials turned by the mask, so that A and B look up and evaluate locally. A window that v
exceeds reads v modulo 2^20, which is garbage. But the highest window whose index reaches `_LEAST` is right,
and those below it do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.sharing.lift_opened import Lift, dealers_part, open_part
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array

_WIDE = 64
_OCTAVES = 4  # A window has this many octaves.
_INDEX_BITS = 8
ENTRIES = 1 << _INDEX_BITS
_LEAST = 15  # A window serves from this index on. Below 16 the lower window still serves there.
_LOW_BITS = 12  # the bits of v below the index: half a unit of v is then 1e-5 of it
NUMBER_BITS = 63.98  # the bits of v, which is never negative: the last window may cover all of the ring
_MOST_WINDOWS = 8  # The bits of so many windows fit a byte.
TERMS = 3  # the terms of a polynomial


@dataclass(frozen=True)
class Windows:
    """The public decisions: window k reads v >> (shift + 4 k)."""

    count: int
    shift: int
    low: int  # the bits of v below the index
    unit: float  # the number that v represents at index 1 of window 0
    value_bits: int  # the fraction bits of the polynomials' values
    root_bits: int  # the fraction bits of the result
    error: float  # relative, to which 1.5 ulp of the result are added

    @property
    def patterns(self) -> int:
        """The number of patterns of the windows' bits. The lowest window needs no bit."""
        return 1 << (self.count - 1)

    @property
    def lift(self) -> Lift:
        """The lift of the opened values."""
        return Lift(_WIDE, self.value_bits - self.root_bits)

    @cached_property
    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """The tables that the dealer turns, (polynomials, bits), with every turn of each window's as a view.

        `polynomials` has shape (terms, windows, turns, entries), and `bits` has shape (windows but the
        lowest, turns, entries).
        """
        heights = self.unit**-0.5 * 2.0 ** (-_OCTAVES / 2 * np.arange(self.count))
        steps = 2.0 ** (-self.low * np.arange(TERMS)) * 2.0**self.value_bits
        polynomials = np.rint(_fits()[:, None] * heights[:, None] * steps[:, None, None]).astype(np.int64)
        polynomials[:, 1:, :_LEAST] = 0  # These windows do not serve there.
        serves = (np.arange(ENTRIES) >= _LEAST).astype(np.int8)
        bits = serves << np.arange(self.count - 1, dtype=np.int8)[:, None]
        return _turns(polynomials), _turns(bits)

    @cached_property
    def shifts(self) -> NDArray[np.uint64]:
        """The place where each window begins, in bits from the lowest one."""
        return (self.shift + _OCTAVES * np.arange(self.count)).astype(np.uint64)


@lru_cache(maxsize=64)
def fit_windows(scale: float, lo: float, hi: float, root_bits: int) -> Windows | None:
    """Return windows for lo <= v / scale <= hi and roots with `root_bits` fraction bits.

    Returns None if ring 64 has no room for them.
    """
    least, most = lo * scale, hi * scale
    low = min(_LOW_BITS, math.floor(portable.log2(least / _LEAST)))
    shift = 0 if low < _LOW_BITS else math.floor(portable.log2(least / _LEAST)) - low
    if low < 0 or most > 2.0**NUMBER_BITS:
        return None
    top = portable.log2(most / ((ENTRIES - 2) * 2.0 ** (low + shift)))
    count = 1 + max(0, math.ceil(top / _OCTAVES))
    # Shifted shares have no bits beyond the ring, so the last window must end there.
    shift = min(shift, _WIDE - _INDEX_BITS - low - _OCTAVES * (count - 1))
    unit = 2.0 ** (low + shift) / scale
    value_bits = root_bits + 2 * low + 1  # The quadratic coefficient rounds to half an ulp of the result.
    if count > _MOST_WINDOWS or shift < 0 or value_bits - 0.5 * portable.log2(unit) > _WIDE - 3:
        return None
    fitted = _fit_error() + 0.5 / (_LEAST - 1) * 2.0**-low
    rounded = 2.0 ** (-root_bits - 1) * math.sqrt(hi)
    return Windows(count, shift, low, unit, value_bits, root_bits, fitted + rounded)


@lru_cache(maxsize=1)
def _fits() -> NDArray[np.float64]:
    """Return coefficients (terms, entries) of the quadratics of s^-1/2 about every index j.

    They are in steps of the index. They serve from j - 1 to j + 1, because the index is off by a borrow.
    Below 2 they are constants.
    """
    index = np.arange(ENTRIES, dtype=np.float64)[:, None]
    nodes = np.cos(np.pi * (np.arange(TERMS) + 0.5) / TERMS)
    values = np.maximum(index + nodes, 1.0) ** -0.5
    fits = np.linalg.solve(np.vander(nodes, TERMS, increasing=True), values.T)
    fits[0, :2], fits[1:, :2] = 1.0, 0.0
    return fits


@lru_cache(maxsize=1)
def _fit_error() -> float:
    """Return the relative error of the fits, from the least index on."""
    steps = np.linspace(-1, 1, 65)
    index = np.arange(_LEAST, ENTRIES)[:, None]
    values = np.vander(steps, TERMS, increasing=True) @ _fits()[:, _LEAST:]
    return float(np.max(np.abs(values.T * np.sqrt(index + steps) - 1)))


def _turns(table: Array) -> Array:
    doubled = np.concatenate([table, table], axis=-1)
    return np.lib.stride_tricks.sliding_window_view(doubled, ENTRIES, axis=-1)


def window_shares(windows: Windows, share: Array, leader: bool) -> Array:
    """Turn a share (rows, 1) of v in ring 64 into shares of the windows' numbers.

    They have shape (rows, windows) and lie in ring 32.
    """
    part = (share.view(np.uint64) >> windows.shifts).astype(np.int32)
    return part + np.int32(1) if leader else part  # Two floors lose at most one, so nothing is below zero.


def _split(windows: Windows, value: Array) -> tuple[Array, Array]:
    """Return (index, bits below it) of an opening or of a mask."""
    low = (value & np.int32((1 << windows.low) - 1)).astype(np.int64)
    return value >> np.int32(windows.low) & np.int32(ENTRIES - 1), low


def deal_tables(windows: Windows, mask: Array) -> tuple[Array, Array]:
    """Return the dealer's tables, turned by r.

    They have shapes (terms, rows, windows, entries) and (rows, windows - 1, entries).
    """
    turn, low = _split(windows, mask)
    start, place = ENTRIES - turn, np.arange(windows.count)
    polynomials, bits = windows.tables
    turned, low = polynomials[:, place, start], low[..., None]
    # The polynomials are in c_low - r_low and are expanded, in place, in powers of c_low.
    constant, linear, quadratic = turned
    term = quadratic * low
    linear -= term
    constant -= linear * low
    linear -= term
    return turned, bits[place[:-1], start[:, 1:]]


def evaluate(windows: Windows, opened: Array, polynomials: Array, bits: Array) -> tuple[Array, Array]:
    """Return shares of every window's value (rows, windows) in ring 64, and of the windows' bits (rows,)."""
    index, low = _split(windows, opened)
    row, place = np.arange(len(opened))[:, None], np.arange(windows.count)
    constant, linear, quadratic = polynomials[:, row, place, index]
    pattern = bits[row, place[:-1], index[:, 1:]].sum(axis=-1, dtype=np.int8)
    return constant + low * (linear + low * quadratic), pattern


@lru_cache(maxsize=8)
def _highest(count: int) -> NDArray[np.int64]:
    """Return the highest window that serves, one-hot, for each pattern of bits."""
    return np.eye(count, dtype=np.int64)[[pattern.bit_length() for pattern in range(1 << (count - 1))]]


def deal_choice(windows: Windows, pattern: Array, first: Array, second: Array) -> Array:
    """Return the dealer's choice (rows, patterns, 2 windows + 1) for each opened pattern.

    It is made from the masks of pattern and values. A row has the chosen window one-hot, the same times the
    top bit of the value's mask, and that mask.
    """
    inner, _, top = dealers_part(first, second, windows.lift)
    places = np.arange(windows.patterns) - pattern[:, None].astype(np.int64)
    chosen = _highest(windows.count)[places & (windows.patterns - 1)]
    mask = (chosen * inner[:, None]).sum(axis=-1, keepdims=True)
    return np.concatenate([chosen, chosen * top[:, None].astype(np.int64), mask], axis=-1)


def choose(windows: Windows, pattern: Array, values: Array, choice: Array) -> Array:
    """Return a share (rows, 1) of the root in ring 64 from the openings of pattern and values."""
    row = choice[np.arange(len(choice)), pattern.astype(np.int64) & (windows.patterns - 1)]
    chosen, wrapped = row[:, : windows.count], row[:, windows.count : -1]
    root = (chosen * open_part(values, windows.lift)).sum(axis=-1, keepdims=True) - row[:, -1:]
    return root + windows.lift.wrapped((wrapped * (values >= 0)).sum(axis=-1, keepdims=True))
