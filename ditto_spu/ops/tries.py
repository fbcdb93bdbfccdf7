"""Define the formats that a search, or a calibration, may try for an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.slopes import Slopes


@dataclass(frozen=True)
class Rung:
    """One step of a ladder: the values that rules would give to an operation.

    format, operand, inner, approx: as in a rule. None leaves the value open.
    weight: the format of the right factor of a product, where it is an argument.
    """

    format: Fxp | None = None
    operand: Fxp | None = None
    inner: Fxp | None = None
    approx: str | None = None
    weight: Fxp | None = None


@dataclass(frozen=True)
class Tries:
    """The formats and approximations that may be tried for an operation, beside the format of its result.

    operands, inner: what a search tries for operands and inside the kernel.
    products: whether a search tries what suits a product of matrices: one fraction bit more or less for the
        operands and the weights, and a tighter declared range.
    ladder: gives the steps from the cheapest formats to wider ones, which a calibration climbs until all
        observed values fit. The formats of unknown values stand behind the last step.
    decides: whether its result jumps, so that the rounding of an operand may change it altogether.
    slopes: gives the factors by which errors of its operands reach its result.
    absolute: whether small operands may be rounded away, as only the absolute error of an operand counts.
    """

    operands: tuple[Fxp, ...] = ()
    inner: tuple[Fxp, ...] = ()
    products: bool = False
    ladder: Callable[[ir.Op], tuple[Rung, ...]] | None = None
    slopes: Slopes | None = None
    absolute: bool = False
    decides: bool = False
