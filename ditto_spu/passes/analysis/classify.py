"""Tell how the parties compute each operation: in public, on their own components, by a kernel, or on SPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ditto_spu import ir
from ditto_spu.ir.arithmetic import splat
from ditto_spu.ops import BY_NAME, find
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.op import Secret, name_of

# These operations are linear in their data operands, given by place. The other operands (indices, predicates)
# must be public.
LAYOUT = {
    "stablehlo.reshape": (0,),
    "stablehlo.transpose": (0,),
    "stablehlo.broadcast_in_dim": (0,),
    "stablehlo.slice": (0,),
    "stablehlo.reverse": (0,),
    "stablehlo.dynamic_slice": (0,),
    "stablehlo.gather": (0,),
    "stablehlo.pad": (0, 1),
    "stablehlo.select": (1, 2),
    "stablehlo.dynamic_update_slice": (0, 1),
    "stablehlo.scatter": (0, 2),
}
SUMS = ("stablehlo.add", "stablehlo.subtract", "stablehlo.negate")
LINEAR = (*SUMS, "stablehlo.concatenate", "stablehlo.convert")


def classify(op: ir.Op, secret: Secret, from_spu: Callable[[ir.Value], bool]) -> Kind:
    """Return how the parties compute an operation, before any format is chosen.

    secret: tells whether a value is secret.
    from_spu: tells whether an SPU operation computed a value. Local work on such values alone stays on SPU,
        and so do comparisons, choices and integer work.
    """
    operands = list(op.operands)
    hidden = [i for i, each in enumerate(operands) if secret(each)]
    if not hidden:
        return Kind.PUBLIC
    if is_cast(op):
        return Kind.CAST
    name, record = name_of(op), find(op)
    if record is not None and record.integers:
        return record.kind
    floats = all(ir.is_float(each) for each in op.results) and all(ir.is_float(operands[i]) for i in hidden)
    local = Kind.SPU if all(from_spu(operands[i]) for i in hidden) else Kind.LOCAL
    if name == "stablehlo.scatter" and not _is_linear_scatter(op):
        return Kind.SPU
    if name in LAYOUT and set(hidden) <= set(LAYOUT[name]) and len(op.results) == 1:
        # Shares of booleans are integers, so a step on them cannot hold public booleans that stay booleans.
        chooses_booleans = name == "stablehlo.select" and ir.element(op.results[0]) == "i1"
        return Kind.SPU if chooses_booleans else local
    numbers = ir.element(op.results[0]) != "i1"
    if name == "stablehlo.concatenate" or (name in SUMS and numbers):
        return local
    if name == "stablehlo.reduce" and numbers:
        return _reduction(op, local)
    if name == "stablehlo.reduce_window":
        sums = _repeats(op) == "stablehlo.add" and len(op.results) == 1
        return local if sums and splat(op.operands[1]) == 0 else Kind.SPU
    if name == "stablehlo.multiply" and len(hidden) == 1 and numbers:
        return Kind.SCALE if local is Kind.LOCAL else Kind.SPU
    if not floats:
        serves = record is not None and record.mixed is not None and record.mixed(op)
        return record.kind if record is not None and serves and local is Kind.LOCAL else Kind.SPU
    if name in LINEAR:
        return local
    if record is None:
        return Kind.SPU
    return record.kind


def kinds(operations: Sequence[ir.Op], secret: Secret) -> dict[ir.Op, Kind]:
    """Return the kind of each operation of @main, given in order."""
    spu: set[ir.Value] = set()
    found = {}
    for op in operations:
        found[op] = classify(op, secret, lambda value: value in spu)
        if found[op] is Kind.SPU:
            spu.update(op.results)
    return found


def _repeats(op: ir.Op) -> str:
    """Return the name of the one operation in the region of a reduction or scatter, or ''."""
    inside = [each.name for each in ir.ops(op.regions[0].blocks[0])]
    return inside[0] if len(inside) == 2 else ""


def _is_linear_scatter(op: ir.Op) -> bool:
    """Tell whether the updates replace the old elements, or are added to them."""
    block = op.regions[0].blocks[0]
    replaces = len(ir.ops(block)) == 1 and ir.ops(block)[0].operands[0] == block.arguments[1]
    return len(op.results) == 1 and (replaces or _repeats(op) == "stablehlo.add")


def _reduction(op: ir.Op, local: Kind) -> Kind:
    """Return the kind of a reduction: sums are local, and a maximum along one dimension has a kernel."""
    repeated = _repeats(op)
    if len(op.results) != 1:
        return Kind.SPU
    if repeated == "stablehlo.add":
        return local
    record = BY_NAME.get(repeated)
    has_kernel = record is not None and op.name in record.kernels and len(ir.attribute(op, "dimensions")) == 1
    return Kind.KERNEL if has_kernel else Kind.SPU
