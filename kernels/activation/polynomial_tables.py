"""The tables of the polynomial forms were fitted by docs/fit_polynomials.py or published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.chebyshev import poly2cheb

from ditto_kernels.values import portable

Polynomial = tuple[float, ...]  # the coefficients of T_0(t), T_1(t), ...
Level = tuple[tuple[int, int], ...]  # (m, n) for each T_(m + n), which needs T_m, T_n and T_(m - n)


@dataclass(frozen=True)
class Pieces:
    """Polynomials of t = x / 2^scale_bits, one between each two neighbouring bounds.

    Outside the bounds the function is 0 and x. If it saturates, it keeps the values that it has at the
    bounds.
    """

    bounds: tuple[float, ...]
    scale_bits: int
    polynomials: tuple[Polynomial, ...]
    levels: tuple[Level, ...]
    saturates: bool
    minimum: float  # a lower bound of every result, errors included: upcasts rely on it
    maximum: float  # the largest value of the polynomials
    error: float  # the largest error of the method, tails included

    @property
    def narrow_bits(self) -> int:
        """The most fraction bits with which the values fit ring 16 and the upcast from it."""
        return math.floor(portable.log2((2**15 - 1) / (self.maximum - self.minimum + 0.25)))


def of_powers(coefficients: Mapping[int, float], scale: float = 1.0) -> Polynomial:
    """Return coefficients in Chebyshev's basis from coefficients of powers of `scale` t."""
    powers = np.zeros(max(coefficients) + 1)
    for power, value in coefficients.items():
        powers[power] = value * scale**power
    return tuple(float(value) for value in poly2cheb(powers))  # type: ignore[no-untyped-call]


_EVEN_8: tuple[Level, ...] = (((1, 1),), ((2, 2),), ((4, 2), (4, 4)))
_EVEN_12: tuple[Level, ...] = (*_EVEN_8, ((6, 4), (6, 6)))
_ODD_9: tuple[Level, ...] = (((1, 1),), ((2, 1), (2, 2)), ((3, 2), (4, 3)), ((5, 4),))

GELU_EVEN = Pieces(
    bounds=(-3.125, 3.125),
    scale_bits=2,
    polynomials=(of_powers({1: 2.0, 2: 6.207936, 4: -13.666636, 6: 19.220998, 8: -10.890057}),),
    levels=_EVEN_8,
    saturates=False,
    minimum=-0.25,
    maximum=3.125,
    error=0.0029,
)

# These polynomials are from PUMA (arXiv 2307.12533), section 4.1, in powers of x = 4 t.
GELU_PUMA = Pieces(
    bounds=(-4.0, -1.95, 3.0),
    scale_bits=2,
    polynomials=(
        of_powers(
            {
                0: -0.5054031199708174,
                1: -0.42226581151983866,
                2: -0.11807612951181953,
                3: -0.011034134030615728,
            },
            4.0,
        ),
        of_powers(
            {
                0: 0.008526321541038084,
                1: 0.5,
                2: 0.3603292692789629,
                4: -0.037688200365904236,
                6: 0.0018067462606141187,
            },
            4.0,
        ),
    ),
    levels=(((1, 1),), ((2, 1), (2, 2)), ((3, 3),)),
    saturates=False,
    minimum=-0.25,
    maximum=3.0,
    error=0.0199,
)

# These polynomials are from CipherDM (arXiv 2409.05414), in powers of x = 8 t.
_SIXTH = (((1, 1),), ((2, 2),), ((4, 2),))

SILU_CIPHERDM = Pieces(
    bounds=(-6.0, -2.0, 6.0),
    scale_bits=3,
    polynomials=(
        of_powers({0: -0.52212664, 1: -0.16910363, 2: -0.01420163}, 8.0),
        of_powers(
            {0: 0.03453821, 1: 0.49379432, 2: 0.19784596, 4: -0.00602401, 6: 0.00008032},
            8.0,
        ),
    ),
    levels=_SIXTH,
    saturates=False,
    minimum=-0.4,
    maximum=6.0,
    error=0.075,
)

MISH_CIPHERDM = Pieces(
    bounds=(-6.0, -2.0, 6.0),
    scale_bits=3,
    polynomials=(
        of_powers({0: -0.55684445, 1: -0.18375535, 2: -0.01572019}, 8.0),
        of_powers(
            {0: 0.07559242, 1: 0.54902050, 2: 0.20152583, 4: -0.00735309, 6: 0.00010786},
            8.0,
        ),
    ),
    levels=_SIXTH,
    saturates=False,
    minimum=-0.45,
    maximum=6.0,
    error=0.1275,
)

SILU_EVEN = Pieces(
    bounds=(-7.0, 7.0),
    scale_bits=3,
    polynomials=(
        of_powers(
            {
                1: 4.0,
                2: 15.36513,
                4: -61.039454,
                6: 188.486108,
                8: -341.396836,
                10: 322.107456,
                12: -121.731307,
            }
        ),
    ),
    levels=_EVEN_12,
    saturates=False,
    minimum=-0.35,
    maximum=7.0,
    error=0.0064,
)

# tanh(x) over +-3 and (1 + tanh(x/2)) / 2 over +-6 are one polynomial of t.
_TANH = {1: 3.90342, 3: -16.223687, 5: 50.275382, 7: -81.051427, 9: 50.686434}

TANH_ODD = Pieces(
    bounds=(-3.0, 3.0),
    scale_bits=2,
    polynomials=(of_powers(_TANH),),
    levels=_ODD_9,
    saturates=True,
    minimum=-1.05,
    maximum=1.0,
    error=0.0055,
)

SIGMOID_ODD = Pieces(
    bounds=(-6.0, 6.0),
    scale_bits=3,
    polynomials=(of_powers({0: 0.5, **{power: value / 2 for power, value in _TANH.items()}}),),
    levels=_ODD_9,
    saturates=True,
    minimum=-0.05,
    maximum=1.0,
    error=0.0028,
)
