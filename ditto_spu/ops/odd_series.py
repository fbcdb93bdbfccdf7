"""Compute atan, asin and erf of a bounded argument elementwise.

`passes/fuse/elementary_functions.py` writes the functions of any argument so that the inner one is bounded.
"""

from collections.abc import Iterator

from ditto_kernels.trigonometry.odd_series_tables import ODD_SERIES
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Relied, Sample
from ditto_spu.plan.plan import Attributes

_SPARE = 2.0**-8  # arguments at the end of the window may be rounded beyond it


def extra(call: Call) -> Attributes:
    """Return the attribute that names the function."""
    return (("function", call.op.name.removeprefix("chlo.")),)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the window of the series."""
    end = ODD_SERIES[call.op.name.removeprefix("chlo.")].window + _SPARE
    yield Relied("argument", -end, end, fact="operand", exact=True)


ODD_SERIES_OP = Op(
    name="odd_series",
    summary="atan, asin and erf of bounded arguments, within the functions of any argument",
    kernels={f"chlo.{each}": "odd_series" for each in ODD_SERIES},
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=extra,
    relies_on=relies_on,
    facts=observed.operand,
    bounds=(-1.6, 1.6),
    sample=Sample(limit=0.5),
)
