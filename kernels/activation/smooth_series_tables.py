"""The coefficients of the precise series were fitted by docs/fit_smooth_series.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Smooth:
    """A function as one series up to `outer`, and as constants or x beyond `bound`.

    f(x) = a_0 + sum a_j sin(2 pi j x / 2^period_bits), or cosines and x/2 if `half`. Between both ends either
    form holds.
    """

    bound: float
    outer: float
    period_bits: int
    half: bool  # whether x/2 is added to the series, which has cosines then, and x takes the place above
    harmonics: tuple[int, ...]  # 1, 2, 3 and so on, or the odd numbers
    coefficients: tuple[float, ...]  # the constant, then one of each harmonic
    fit_error: float
    tail_error: float


_ODD = tuple(range(1, 40, 2))

GELU = Smooth(
    bound=5.0,
    outer=5.25,
    period_bits=4,
    half=True,
    harmonics=tuple(range(1, 11)),
    coefficients=(
        *(1.937944395, -1.616880596, -0.09287551765, -0.1499820281, -0.03962893754),
        *(-0.02447857067, -0.01022637586, -0.002071021276, -0.001690134189, 3.541597455e-05),
        *(-0.0001453145225,),
    ),
    fit_error=1.4e-06,
    tail_error=1.5e-06,
)

GELU_BY_TANH = Smooth(
    bound=4.75,
    outer=5.0,
    period_bits=4,
    half=True,
    harmonics=tuple(range(1, 12)),
    coefficients=(
        *(1.950152219, -1.640249678, -0.07217791308, -0.1671933282, -0.02675537089),
        *(-0.03323730539, -0.004613914479, -0.005069205464, -0.0002413773648, -0.0005838208114),
        *(1.76786565e-05, -4.849320922e-05),
    ),
    fit_error=5.1e-07,
    tail_error=1.2e-06,
)

SILU = Smooth(
    bound=14.5,
    outer=15.0,
    period_bits=6,
    half=True,
    harmonics=_ODD,
    coefficients=(
        *(7.999777243, -6.583714329, -0.7967255105, -0.3030513651, -0.1482841961),
        *(-0.07772860033, -0.04163908589, -0.02238534548, -0.01209682126, -0.006505793259),
        *(-0.003527902433, -0.001889326598, -0.001031604923, -0.0005466616296, -0.0003033212935),
        *(-0.0001568292498, -9.023193068e-05, -4.417067556e-05, -2.742646881e-05, -1.204201887e-05),
        *(-8.338702638e-06,),
    ),
    fit_error=8.4e-06,
    tail_error=7.4e-06,
)

TANH = Smooth(
    bound=6.25,
    outer=6.5,
    period_bits=5,
    half=False,
    harmonics=_ODD,
    coefficients=(
        *(0.0, 1.244481519, 0.3779746774, 0.1679253176, 0.09944289405),
        *(0.04230754844, 0.03241668795, 0.009143077209, 0.01192994534, 0.0007372849556),
        *(0.004897782601, -0.0007923758238, 0.002102114056, -0.0006563513407, 0.0008591467837),
        *(-0.0003187839914, 0.0003044057042, -0.0001066583513, 8.392499734e-05, -2.07093791e-05),
        *(1.491090513e-05,),
    ),
    fit_error=3.4e-06,
    tail_error=7.5e-06,
)

SIGMOID = Smooth(
    bound=12.5,
    outer=13.0,
    period_bits=6,
    half=False,
    harmonics=_ODD,
    coefficients=(
        *(0.5, 0.6222407593, 0.1889873387, 0.08396265878, 0.04972144702),
        *(0.02115377422, 0.01620834397, 0.004571538605, 0.005964972668, 0.0003686424778),
        *(0.0024488913, -0.0003961879119, 0.001051057028, -0.0003281756704, 0.0004295733918),
        *(-0.0001593919957, 0.0001522028521, -5.332917564e-05, 4.196249867e-05, -1.035468955e-05),
        *(7.455452565e-06,),
    ),
    fit_error=1.7e-06,
    tail_error=3.8e-06,
)
