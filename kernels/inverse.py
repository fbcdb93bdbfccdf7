"""1/x and 1/sqrt(x) for few elements (one a row): a guess from thresholds and a polynomial of its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ditto_kernels.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.compare import signs, signs_cost
from ditto_kernels.cost import Cost, elements, exchanged
from ditto_kernels.multiply import finish_cost, multiply
from ditto_kernels.party import Party, Protocol, parallel
from ditto_kernels.ring import Array, Fxp
from ditto_kernels.rss import Rss
from ditto_kernels.select import to_arithmetic, to_arithmetic_cost
from ditto_kernels.truncate import upcast, upcast_cost

Power = Literal["reciprocal", "rsqrt"]
_WIDE = 64
_EPSILON_BITS = 16  # fraction bits of the guess's relative error
_STEPS = {"reciprocal": 6, "rsqrt": 4}  # thresholds an octave: cubic error below 5e-5 of the result
_SQUARE = {"reciprocal": (1, 0), "rsqrt": (3, 3)}  # coefficient of the square: numerator, power of two below


@dataclass(frozen=True)
class Table:
    """Everything public about one evaluation, in integers.

    An x in [edge_j, edge_(j+1)) gets the guess g_j, and G_j = g_j (reciprocal) or g_j^2 / divisor (rsqrt): x
    * G_j is 1 - epsilon at `unit_bits`. The result is g_j (c0 + c1 epsilon + c2 epsilon^2).
    """

    edges: tuple[int, ...]  # in ulp of x, ascending, without the lowest
    guesses: tuple[int, ...]
    guess_bits: int
    multipliers: tuple[int, ...]
    unit_bits: int
    low: int  # bits of x the comparison leaves out
    width: int  # ring of the comparison
    constant: int  # c0 and c1 at their fraction bits
    linear: int
    square: int
    result_bits: int  # fraction bits of guess times polynomial
    error: float  # relative


def guess_room(lo: float, power: Power = "reciprocal") -> int:
    """Fraction bits that a guess may have so that the last product stays below 2^61."""
    if lo <= 0:
        raise ValueError(f"{power}: the range must be positive, but starts at {lo:g}")
    largest = lo ** (-1.0 if power == "reciprocal" else -0.5)
    return 60 - 2 * _EPSILON_BITS - _SQUARE[power][1] - math.ceil(math.log2(largest))


def table(power: Power, fxp: Fxp, lo: float, hi: float, guess_bits: int, divisor: int = 1) -> Table:
    """Thresholds, guesses and coefficients for (x / divisor)^-1 or ^-1/2, lo <= x / divisor <= hi."""
    if not 0 < lo < hi:
        raise ValueError(f"{power}: the range must satisfy 0 < lo < hi, not {lo:g} to {hi:g}")
    ulps = 2.0**fxp.fraction_bits * divisor
    if lo * ulps < 2 or hi * ulps >= 2.0 ** (fxp.ring_bits - 1):
        raise ValueError(f"{power} on [{lo:g}, {hi:g}]: {fxp} does not hold that range")
    top = math.ceil(math.log2(hi * ulps))
    width = next(
        ring for ring in (16, 32, 64) if ring == _WIDE or math.log2(lo * ulps) - max(0, top + 1 - ring) >= 6
    )
    width = min(width, fxp.ring_bits)
    low = max(0, top + 1 - width)
    steps = max(1, math.ceil(_STEPS[power] * math.log2(hi / lo)))
    ratio = (hi / lo) ** (1 / steps)
    bounds = [lo * ratio**step for step in range(steps + 1)]
    exponent = -1.0 if power == "reciprocal" else -0.5
    guesses = [max(1, round(2.0**guess_bits * (left * (1 + ratio) / 2) ** exponent)) for left in bounds[:-1]]
    spare = 60 - fxp.fraction_bits - 2 * guess_bits
    if power == "reciprocal":
        scaled, unit_bits = [guess / divisor for guess in guesses], fxp.fraction_bits + guess_bits
    else:
        lift = max(0, spare) if divisor > 1 else 0
        scaled = [guess**2 * 2**lift / divisor for guess in guesses]
        unit_bits = fxp.fraction_bits + 2 * guess_bits + lift
    if divisor > 1 and power == "reciprocal":
        raise ValueError("reciprocal takes no divisor")
    if unit_bits > 60 or unit_bits < _EPSILON_BITS:
        raise ValueError(f"{power} of {fxp}: {guess_bits} guess bits leave no room in a ring of {_WIDE} bits")
    multipliers = [round(value) for value in scaled]
    if min(*guesses, *multipliers) < 16 or guess_bits > guess_room(lo, power):
        raise ValueError(f"{power} on [{lo:g}, {hi:g}]: the range is too wide for one evaluation; narrow it")
    slack = 2.0**low / ulps
    spread = [
        1 - edge * ulps * multiplier / 2.0**unit_bits
        for left, right, multiplier in zip(bounds, bounds[1:], multipliers, strict=False)
        for edge in (max(left - slack, lo), right)
    ]
    constant, linear, square, error = _fit(power, min(spread), max(spread))
    if power == "rsqrt":
        drift = max(abs(m / s - 1) / 2 for m, s in zip(multipliers, scaled, strict=True))
        error += drift
    return Table(
        tuple(math.ceil(edge * ulps) for edge in bounds[1:-1]),
        tuple(guesses),
        guess_bits,
        tuple(multipliers),
        unit_bits,
        low,
        width,
        constant,
        linear,
        square,
        2 * _EPSILON_BITS + _SQUARE[power][1] + guess_bits,
        error + 1.5 * 2.0**-_EPSILON_BITS,
    )


def _fit(power: Power, least: float, most: float) -> tuple[int, int, int, float]:
    """Integer coefficients of (1 - epsilon)^p on an interval, the square's fixed; the relative error."""
    exponent = -1.0 if power == "reciprocal" else -0.5
    numerator, below = _SQUARE[power]
    nodes = (least + most) / 2 + (most - least) / 2 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    exact = (1 - nodes) ** exponent
    rest = exact - numerator / 2.0**below * nodes**2
    weight = 1 / exact
    matrix = np.stack([weight, nodes * weight], axis=1)
    (c0, c1), *_ = np.linalg.lstsq(matrix, rest * weight, rcond=None)
    scale0, scale1 = 2.0 ** (2 * _EPSILON_BITS + below), 2.0 ** (_EPSILON_BITS + below)
    constant, linear = round(c0 * scale0), round(c1 * scale1)
    fine = np.linspace(least, most, 513)
    value = constant / scale0 + linear / scale1 * fine + numerator / 2.0**below * fine**2
    return constant, linear, numerator, float(np.max(np.abs(value * (1 - fine) ** -exponent - 1)))


def _guess(party: Party, x: Additive, how: Table) -> Protocol[list[Additive]]:
    """Additive guess and multiplier (one tensor if they are equal): one opening, all thresholds at once."""
    wide = Fxp(_WIDE, 0)
    share: Array | None = None if party.role == "D" else np.zeros((0, x.size), dtype=np.int64)
    if how.edges:
        opened = yield from open_masked(party.at("open"), x)
        below = yield from signs(
            party.at("signs"), opened, [-edge for edge in how.edges], low=how.low, width=how.width
        )
        bits = yield from to_arithmetic(party.at("bits"), below, x.size, wide)
        share = None if bits.share is None else np.asarray(bits.share)
    results = []
    for values in dict.fromkeys((how.guesses, how.multipliers)):
        combined = None
        if share is not None:
            steps = np.asarray(values[:-1], dtype=np.int64) - np.asarray(values[1:], dtype=np.int64)
            combined = (share * steps[:, None]).sum(axis=0, dtype=np.int64).reshape(x.shape)
            if party.role == "A":
                combined = combined + np.int64(values[-1])
        results.append(Additive(combined, x.shape, wide))
    return results


def _widened(party: Party, x: Rss | Additive) -> Protocol[Rss]:
    if x.fxp.ring_bits < _WIDE:
        return (yield from upcast(party, x, _WIDE, bias=2))  # positive but for rounding
    if isinstance(x, Additive):
        return (yield from to_rss(party, x))
    return x


def plus_constant(party: Party, x: Rss, value: int, factor: int = 1) -> Rss:
    """factor * x + value with public ring elements: local; component 0 takes the constant."""
    dtype = x.fxp.dtype.type
    mine, following = (np.asarray(part) * dtype(factor) for part in (x.mine, x.next))
    if party.rank == 0:
        mine = mine + dtype(value)
    if party.rank == 2:
        following = following + dtype(value)
    return Rss(mine, following, x.fxp)


def inverse(party: Party, x: Rss | Additive, how: Table, out: Fxp) -> Protocol[Rss]:
    """(x / divisor)^-1 or ^-1/2 for positive x by a public `table`.

    Range: x within the table's; outside it the result is wrong. Error: relative `Table.error`, 1.5 ulp of
    `out`. Rounds: 4 to 6 for the guess (one more if x needs an upcast), then 4 (5 if `out` needs a truncation
    in ring 64). Security: `signs`, `to_arithmetic`, and products under zero shares. Source: threshold guess
    and truncated series, own.
    """
    additive = from_rss(party, x) if isinstance(x, Rss) else x
    guesses = yield from _guess(party.at("guess"), additive, how)
    wide, *replicated = yield from parallel(
        _widened(party.at("widen"), x),
        *(to_rss(party.at(f"guess{place}"), value) for place, value in enumerate(guesses)),
    )
    guess, multiplier = replicated[0], replicated[-1]
    unit = Fxp(_WIDE, how.unit_bits)
    ratio = yield from multiply(
        party.at("ratio"),
        wide,
        multiplier.retagged(Fxp(_WIDE, unit.fraction_bits - wide.fxp.fraction_bits)),
        Fxp(_WIDE, _EPSILON_BITS),
    )
    epsilon = plus_constant(party, ratio, 1 << _EPSILON_BITS, -1)
    square = yield from multiply(party.at("square"), epsilon, epsilon, Fxp(_WIDE, 2 * _EPSILON_BITS))
    polynomial = Rss(
        np.asarray(square.mine) * np.int64(how.square) + epsilon.mine * np.int64(how.linear),
        np.asarray(square.next) * np.int64(how.square) + epsilon.next * np.int64(how.linear),
        Fxp(_WIDE, how.result_bits - how.guess_bits),
    )
    polynomial = plus_constant(party, polynomial, how.constant)
    return (
        yield from multiply(party.at("result"), polynomial, guess.retagged(Fxp(_WIDE, how.guess_bits)), out)
    )


def inverse_cost(shape: tuple[int, ...], ring: int, how: Table, out: Fxp, additive: bool = False) -> Cost:
    """Cost of `inverse`; `additive` tells that x arrives in 2-of-2 shares."""
    count, thresholds = elements(shape), len(how.edges)
    guess = Cost()
    if thresholds:
        guess = exchanged(count, ring) + signs_cost(count, ring, thresholds, how.width)
        guess = guess + to_arithmetic_cost(count, _WIDE, how.width, thresholds)
    replicated = exchanged(count * (1 if how.guesses == how.multipliers else 2), _WIDE)
    if ring < _WIDE:
        widen = upcast_cost(count, ring, _WIDE)
    else:
        widen = exchanged(count, _WIDE) if additive else Cost()
    ratio = finish_cost(count, _WIDE, how.unit_bits - _EPSILON_BITS, Fxp(_WIDE, _EPSILON_BITS))
    square = finish_cost(count, _WIDE, 0, Fxp(_WIDE, 2 * _EPSILON_BITS))
    return (
        guess
        + (widen | replicated)
        + ratio
        + square
        + finish_cost(count, _WIDE, how.result_bits - out.fraction_bits, out)
    )


def result_bits(power: Power, guess_bits: int) -> int:
    """Fraction bits of the last product of `inverse`."""
    return 2 * _EPSILON_BITS + _SQUARE[power][1] + guess_bits
