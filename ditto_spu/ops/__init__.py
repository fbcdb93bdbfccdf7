"""Hold all that the compiler knows about each operation: one file per operation, and the list of them."""

from collections.abc import Callable, Mapping

from ditto_spu import ir
from ditto_spu.ops.abs import ABS
from ditto_spu.ops.argmax import ARGMAX
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.clamp import CLAMP
from ditto_spu.ops.compare import COMPARE
from ditto_spu.ops.convert import CONVERT
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.divide import DIVIDE
from ditto_spu.ops.embedding import EMBEDDING
from ditto_spu.ops.exponential import EXPONENTIAL
from ditto_spu.ops.gelu import GELU
from ditto_spu.ops.layer_norm import LAYER_NORM
from ditto_spu.ops.linear import LINEAR
from ditto_spu.ops.logarithm import LOGARITHM
from ditto_spu.ops.logic import LOGIC
from ditto_spu.ops.matmul import MATMUL
from ditto_spu.ops.maximum import MAXIMUM
from ditto_spu.ops.multiply import MULTIPLY
from ditto_spu.ops.odd_series import ODD_SERIES_OP
from ditto_spu.ops.op import Op, name_of
from ditto_spu.ops.rms_norm import RMS_NORM
from ditto_spu.ops.round import ROUND
from ditto_spu.ops.rsqrt import RSQRT
from ditto_spu.ops.select import SELECT
from ditto_spu.ops.sigmoid import SIGMOID
from ditto_spu.ops.sign import SIGN
from ditto_spu.ops.silu import SILU
from ditto_spu.ops.sine import SINE
from ditto_spu.ops.softmax import SOFTMAX
from ditto_spu.ops.softplus import MISH, SOFTPLUS
from ditto_spu.ops.sqrt import SQRT
from ditto_spu.ops.tanh import TANH

__all__ = ["BY_KERNEL", "BY_NAME", "OPS", "find", "intervals", "record_of", "subject"]

# This list is literal on purpose. Patterns are tried in its order, so a larger pattern stands before the
# smaller ones that it contains.
OPS: dict[str, Op] = {
    each.name: each
    for each in (
        MATMUL,
        LINEAR,
        MULTIPLY,
        SOFTMAX,
        LAYER_NORM,
        RMS_NORM,
        SILU,
        MISH,
        SOFTPLUS,
        GELU,
        TANH,
        SIGMOID,
        EXPONENTIAL,
        LOGARITHM,
        RSQRT,
        SQRT,
        SINE,
        ODD_SERIES_OP,
        DIVIDE,
        MAXIMUM,
        ARGMAX,
        EMBEDDING,
        COMPARE,
        SELECT,
        ABS,
        SIGN,
        CLAMP,
        ROUND,
        CONVERT,
        LOGIC,
    )
}

# The same records by the name that an operation has in a module, and by the name of the kernel.
BY_NAME: Mapping[str, Op] = {name: op for op in OPS.values() for name in op.kernels}
BY_KERNEL: Mapping[str, Op] = {kernel: op for op in OPS.values() for kernel in op.kernels.values()}


def find(op: ir.Op) -> Op | None:
    """Return the record of an operation by its name alone, or None.

    The name does not decide everything: not every reduction is a maximum. `record_of` takes the kind into
        account.
    """
    return BY_NAME.get(name_of(op))


def _interval_of(op: ir.Op) -> ir.Interval | None:
    """Return the interval of an operation that says its own, whatever its operands are, or None."""
    record = find(op)
    return None if record is None else record.bounds


def _rows_of(op: ir.Op, at: ir.At) -> ir.Rows | None:
    """Return what an operation says of the rows of its result, or None.

    at: returns the interval of a value that was computed before.
    """
    record = find(op)
    return None if record is None else record.rows(op, at)


def intervals(
    module: ir.Module, settle: Callable[[ir.Op, ir.Interval], ir.Interval] = lambda op, found: found
) -> dict[ir.Value, ir.Interval]:
    """Return an interval for every number of @main, by what operations say of their results.

    settle: as in `ir.intervals`.
    """
    return ir.intervals(module, _interval_of, is_cast, settle, _rows_of)


def record_of(op: ir.Op, kind: Kind) -> Op | None:
    """Return the record of an operation of this kind, or None for public operations, casts and SPU's."""
    if kind is Kind.LOCAL:
        return LINEAR
    if kind in (Kind.SCALE, Kind.RETAG):
        return MULTIPLY
    if kind in (Kind.MATMUL, Kind.MULTIPLY, Kind.KERNEL):
        return BY_NAME[name_of(op)]
    return None


def subject(op: ir.Op, kind: Kind) -> str:
    """Return the name by which the rules of a configuration speak about an operation of this kind."""
    record = record_of(op, kind)
    return kind.value if record is None else record.name
