"""What each StableHLO operation is to the compiler: public, local on shares, a kernel, or SPU's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ditto_spu import ir
from ditto_spu.ir.arithmetic import splat

Secret = Callable[[ir.Value], bool]

# Linear in their data operands; the other operands (indices, predicates) must be public.
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
LINEAR = ("stablehlo.add", "stablehlo.subtract", "stablehlo.negate")

# Operation or composite -> (kernel, the op of a configuration's rules that speaks about it).
KERNEL_OPS = {
    "stablehlo.tanh": ("tanh", "tanh"),
    "stablehlo.logistic": ("sigmoid", "sigmoid"),
    "stablehlo.exponential": ("exponential", "exp"),
    "stablehlo.rsqrt": ("rsqrt", "rsqrt"),
    "stablehlo.maximum": ("maximum", "maximum"),
    "stablehlo.divide": ("divide", "divide"),
    "ditto.gelu": ("gelu", "gelu"),
    "ditto.softmax": ("softmax", "softmax"),
    "ditto.silu": ("silu", "silu"),
    "ditto.layer_norm": ("layer_norm", "layer_norm"),
    "ditto.rms_norm": ("rms_norm", "rms_norm"),
    "ditto.embedding": ("embedding", "embedding"),
    "ditto.argmax": ("argmax", "argmax"),
}


def op_name(op: ir.Op) -> str:
    """The name of an operation, or of a composite what it is called."""
    return ir.composite_name(op) or op.name


def classify(op: ir.Op, secret: Secret, from_spu: Callable[[ir.Value], bool]) -> str:
    """'public', 'cast', 'local', 'scale' (times a public value), 'matmul', 'multiply', 'kernel' or 'spu'.

    `from_spu` tells values that an SPU operation made: local work on them alone stays there.
    """
    operands = list(op.operands)
    hidden = [i for i, each in enumerate(operands) if secret(each)]
    if not hidden:
        return "public"
    name = op_name(op)
    if name == "ditto.cast":
        return "cast"
    if name == "ditto.adapted":
        return "matmul"
    if name in ("ditto.embedding", "ditto.softmax"):
        return "kernel"
    floats = all(ir.is_float(each) for each in op.results) and all(ir.is_float(operands[i]) for i in hidden)
    stays = all(from_spu(operands[i]) for i in hidden)
    if name == "stablehlo.scatter" and not _is_linear_scatter(op):
        return "spu"
    if name in LAYOUT and set(hidden) <= set(LAYOUT[name]) and len(op.results) == 1:
        # Shares of booleans are integers: a step on them can hold no public booleans that stay booleans.
        chooses_booleans = name == "stablehlo.select" and ir.element(op.results[0]) == "i1"
        return "spu" if stays or chooses_booleans else "local"
    if not floats:
        return "spu"
    if name == "stablehlo.concatenate" or name in LINEAR or name == "stablehlo.convert":
        return "spu" if stays else "local"
    if name == "stablehlo.reduce_window":
        sums = _repeats(op) == "stablehlo.add" and len(op.results) == 1
        return "local" if sums and splat(op.operands[1]) == 0 and not stays else "spu"
    if name == "stablehlo.reduce":
        return _reduction(op, stays)
    if name == "stablehlo.multiply":
        if len(hidden) == 1:
            return "spu" if stays else "scale"
        return "multiply"
    if name == "stablehlo.dot_general":
        return "matmul"
    if name in KERNEL_OPS:
        return "kernel"
    return "spu"


def kinds(operations: Sequence[ir.Op], secret: Secret) -> dict[ir.Op, str]:
    """`classify` for the operations of @main, in order."""
    spu: set[ir.Value] = set()
    found = {}
    for op in operations:
        found[op] = classify(op, secret, lambda value: value in spu)
        if found[op] == "spu":
            spu.update(op.results)
    return found


def rule_op(op: ir.Op, kind: str) -> str:
    """The op by which the rules of a configuration speak about an operation of this kind."""
    if kind == "local":
        return "add"
    if kind in ("scale", "retag"):
        return "multiply"
    if kind == "kernel":
        return KERNEL_OPS[op_name(op)][1] if op_name(op) in KERNEL_OPS else "maximum"
    return kind  # matmul, multiply, spu


def _repeats(op: ir.Op) -> str:
    """The one operation in the region of a reduction or scatter, or ''."""
    inside = [each.name for each in ir.ops(op.regions[0].blocks[0])]
    return inside[0] if len(inside) == 2 else ""


def _is_linear_scatter(op: ir.Op) -> bool:
    """Whether updates replace what was there, or are added to it."""
    block = op.regions[0].blocks[0]
    replaces = len(ir.ops(block)) == 1 and ir.ops(block)[0].operands[0] == block.arguments[1]
    return len(op.results) == 1 and (replaces or _repeats(op) == "stablehlo.add")


def _reduction(op: ir.Op, stays: bool) -> str:
    repeated = _repeats(op)
    if len(op.results) != 1:
        return "spu"
    if repeated == "stablehlo.add":
        return "spu" if stays else "local"
    if repeated == "stablehlo.maximum" and len(ir.attribute(op, "dimensions")) == 1:
        return "kernel"
    return "spu"
