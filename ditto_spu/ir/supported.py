"""List the operations that SPU runs correctly on secret values. All others are refused at compile time.

SPU itself compiles more than it runs, aborts the process on some operations, and computes a few wrongly.
"""

from __future__ import annotations

from ditto_spu import ir

_ELEMENTWISE = """abs add and atan2 bitcast_convert ceil clamp compare convert cosine divide exponential
exponential_minus_one floor is_finite log log_plus_one logistic maximum minimum multiply negate not or popcnt
power remainder round_nearest_afz round_nearest_even rsqrt select shift_left shift_right_arithmetic
shift_right_logical sign sine sqrt subtract tanh xor"""
# Each element of the result depends only on the elements of the operands at its place.
ELEMENTWISE = frozenset(f"stablehlo.{name}" for name in _ELEMENTWISE.split())
_SHAPES = """broadcast_in_dim concatenate constant convolution dot dot_general dynamic_slice
dynamic_update_slice gather iota pad reduce reduce_window reshape reverse scatter select_and_scatter slice
sort transpose"""
_CONTROL = "case composite if optimization_barrier return while"
# XLA lowers chlo ops on the way to HLO.
_CHLO = """acos acosh asin asinh atan atanh cosh digamma erf erf_inv erfc lgamma next_after polygamma sinh
square zeta broadcast_add broadcast_subtract broadcast_multiply broadcast_divide"""

SUPPORTED = frozenset(
    {"func.func", "func.call", "func.return"}
    | {f"stablehlo.{name}" for name in f"{_ELEMENTWISE} {_SHAPES} {_CONTROL}".split()}
    | {f"chlo.{name}" for name in _CHLO.split()}
)
_REMEDY = {
    "stablehlo.custom_call": "callbacks and LAPACK cannot run on shares; use jax functions of ordinary ops",
    "stablehlo.fft": "multiply by the matrix of the discrete Fourier transform",
    "stablehlo.rng_bit_generator": "draw random numbers outside of the secure function",
    "chlo.top_k": "SPU's top_k opens comparisons; sort instead",
    "stablehlo.reduce_precision": "leave the rounding out: the fixed-point format decides the precision",
}
# What routines of LAPACK compute, by a part of their names.
_LAPACK = {
    "syevd": "eigenvalues of a symmetric matrix",
    "heevd": "eigenvalues of a symmetric matrix",
    "geev": "eigenvalues",
    "gesdd": "singular values",
    "gees": "a Schur decomposition",
    "gehrd": "a Hessenberg form",
}
# `ditto_spu/spu/compile.py` writes these in other operations.
REWRITTEN = ("chlo.tan", "stablehlo.tan", "stablehlo.cbrt")
_ELEMENTS = frozenset(("i1", "i8", "i16", "i32", "i64", "ui8", "ui16", "ui32", "ui64", "f32", "f64"))


def unsupported(op: ir.Op) -> str:
    """Return why SPU cannot run `op`, with the remedy, or '' if it can."""
    if op.name == "func.func" or op.name in REWRITTEN:
        return ""
    if op.name not in SUPPORTED:
        return f"SPU cannot run {op.name}; {_REMEDY.get(op.name, 'write it with other operations')}"
    for value in (*op.operands, *op.results):
        if (element := ir.element(value)) not in _ELEMENTS:
            return f"SPU has no values of type {element}; use float32, integers or booleans"
    return _wrong_on_spu(op)


def _wrong_on_spu(op: ir.Op) -> str:
    """Return why SPU's result would differ from XLA's, or ''."""
    if op.name not in ("stablehlo.bitcast_convert", "stablehlo.convert", "stablehlo.shift_right_logical"):
        return ""
    source, target = ir.element(op.operands[0]), ir.element(op.results[0])
    if op.name == "stablehlo.bitcast_convert" and source != target and "f" in source + target:
        return f"the bits of {source} are not the bits of its fixed-point form; avoid the bitcast"
    if op.name == "stablehlo.shift_right_logical" and not source.startswith("u"):
        return f"a logical shift of {source} sees 64 bits, wrong below zero; shift unsigned integers"
    bits_before, bits_after = (int(element.lstrip("uif")) for element in (source, target))
    if op.name == "stablehlo.convert" and "f" not in source + target and bits_before > bits_after in (8, 16):
        return f"SPU does not wrap {source} to {target}; stay in the wider integer type"
    return ""


def refused(op: ir.Op) -> str:
    """Return why neither a kernel nor SPU can do an operation on secret values, and the remedy, or ''."""
    if not all(ir.is_known(value) for value in (*op.operands, *op.results)) and op.name in SUPPORTED:
        return "complex numbers and tuples cannot be shared; compute with real and imaginary parts"
    if op.name in SUPPORTED or op.name in REWRITTEN:
        exact = op.name in ("stablehlo.bitcast_convert", "stablehlo.shift_right_logical")
        return _wrong_on_spu(op) if exact else ""
    remedy = _REMEDY.get(op.name, "write it with other operations")
    return f"neither a kernel nor SPU can run {_called(op)}; {remedy}"


def _called(op: ir.Op) -> str:
    """Return the operation's name, and for a call of LAPACK what it computes."""
    target = ir.attribute(op, "call_target_name", "")
    computed = next((what for part, what in _LAPACK.items() if part in target), target)
    return f"{op.name} ({computed})" if computed else op.name
