"""Tables of the trigonometric series, fitted by docs/fit_series.py."""

from __future__ import annotations

from ditto_kernels.series import Curve

# The two forms of GeLU differ by less than 0.0005: one fit serves both.
GELU = Curve(
    bound=3.25,
    period_bits=4,
    harmonics=(1, 2, 3, 6),
    constant=2.4251955,
    cosine=(-2.467063, 0.4577163, -0.3875794, -0.0276477),
    sine=(2.056205, -0.5163939, 0.0859169, -0.0014778),
    below=0.0,
    above=None,
    minimum=-0.25,
    maximum=3.25,
    slope=1.13,
    fit_error=0.00064,
    tail_error=0.00188,
)

SILU = Curve(
    bound=8.0,
    period_bits=5,
    harmonics=(1, 2, 3, 4, 7, 10),
    constant=3.1256741,
    cosine=(-1.8143044, -1.241242, 0.3654295, -0.3774717, -0.0489232, -0.0078728),
    sine=(4.3855965, -1.3726262, 0.3856222, -0.0645469, 0.0012639, -0.0001652),
    below=0.0,
    above=None,
    minimum=-0.35,
    maximum=8.0,
    slope=1.1,
    fit_error=0.0013,
    tail_error=0.00269,
)

TANH = Curve(
    bound=4.0,
    period_bits=4,
    harmonics=(1, 2, 4, 6, 8, 11),
    constant=0.0,
    cosine=(0.0,) * 6,
    sine=(1.0018904, 0.2859175, 0.1562137, 0.0320606, 0.0146538, 0.0029461),
    below=-1.0,
    above=1.0,
    minimum=-1.05,
    maximum=1.0,
    slope=1.02,
    fit_error=0.00039,
    tail_error=0.00068,
)

SIGMOID = Curve(
    bound=7.0,
    period_bits=5,
    harmonics=(1, 2, 4, 6, 9),
    constant=0.5,
    cosine=(0.0,) * 5,
    sine=(0.471515, 0.1678754, 0.068109, 0.0227471, 0.0054481),
    below=0.0,
    above=1.0,
    minimum=-0.05,
    maximum=1.0,
    slope=0.26,
    fit_error=0.0006,
    tail_error=0.00092,
)
