"""Compile StableHLO to SPU executables.

Only the ops that `supported` lists are accepted. The result is searched for operations that would reveal a
secret.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import spu
from jaxlib import xla_client
from spu import libspu

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.supported import unsupported
from ditto_spu.spu.values import kind_of

# These ops are rewritten with other ops before SPU sees them.
_EXPANSIONS: dict[str, Callable[..., jax.Array]] = {
    "chlo.tan": lambda x: jnp.sin(x) / jnp.cos(x),
    "stablehlo.tan": lambda x: jnp.sin(x) / jnp.cos(x),
    "stablehlo.cbrt": lambda x: jnp.sign(x) * jnp.exp(jnp.log(jnp.abs(x)) / 3),
}


def _remainder(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the remainder of a division that rounds to zero, for quotients up to about a thousand.

    SPU's own truncates the quotient, whose error then counts as a whole divisor. A remainder below 2^-12 is
    zero here, so that multiples of the divisor leave none.
    """
    left = x - jnp.round(x / y) * y
    left = jnp.where(jnp.abs(left) < 2**-12, 0.0, left)
    size = jnp.abs(y)
    return jnp.where((left < 0) & (x > 0), left + size, jnp.where((left > 0) & (x < 0), left - size, left))


_ACCURATE: dict[str, Callable[..., jax.Array]] = {
    "stablehlo.tanh": lambda x: 2 / (1 + jnp.exp(-2 * x)) - 1,
    "stablehlo.remainder": _remainder,
}
_compiling = threading.Lock()


def compile_program(
    program: str | ir.Module, public: Sequence[bool], name: str = "main", stock: bool = False
) -> bytes:
    """Compile a module to a serialised SPU executable.

    Its inputs are `in0` and so on, its outputs `out0.f32` and so on, where the suffix is the kind. `public`
    says which arguments of @main are public. With `stock`, tanh is SPU's own, whose error is 0.005. Otherwise
    it is computed from the exponential.

    Raises UnsupportedOpError for a program that SPU cannot run, or that it would run by opening a secret.
    """
    text = program if isinstance(program, str) else ir.text(program, debug_info=True)
    return _compile(text, tuple(public), name, stock)


@functools.lru_cache(maxsize=512)
def _compile(text: str, public: tuple[bool, ...], name: str, stock: bool) -> bytes:
    # One MLIR context serves the whole process, so the threads of the parties take turns.
    with _compiling:
        module = ir.parse(text)
        _expand(module, _EXPANSIONS if stock else {**_EXPANSIONS, **_ACCURATE})
        _refuse_unsupported(module)
        _simplify_comparators(module)
        results = [kind_of(ir.element(value)) for value in ir.ops(ir.body(ir.main(module)))[-1].operands]
        code = _to_pphlo(ir.text(module), public)
    _refuse_reveals(code)
    inputs = [f"in{index}" for index in range(len(public))]
    # SPU forgets some integer types (the indices of top_k come back as int64). The names keep them.
    outputs = [f"out{index}.{kind}" for index, kind in enumerate(results)]
    return libspu.Executable(name, inputs, outputs, code.encode()).SerializeToString()


def _to_pphlo(text: str, public: tuple[bool, ...]) -> str:
    options = libspu.CompilerOptions()
    options.disable_div_sqrt_rewrite = True
    options.enable_optimize_denominator_with_broadcast = True
    options.disable_partial_sort_optimization = True  # it opens comparisons of shuffled values
    visibility = [spu.Visibility.VIS_PUBLIC if each else spu.Visibility.VIS_SECRET for each in public]
    if "chlo." in text:
        # SPU's StableHLO reader has no chlo dialect. XLA expands it on the way to HLO.
        to_hlo = xla_client._xla.mlir.mlir_module_to_xla_computation
        hlo = to_hlo(text, use_tuple_args=False, return_tuple=False)
        kind, source = libspu.SourceIRType.XLA, hlo.as_serialized_hlo_module_proto()
    else:
        kind, source = libspu.SourceIRType.STABLEHLO, text.encode()
    try:
        compiled = libspu.compile(libspu.CompilationSource(kind, source, visibility), options)
    except RuntimeError as error:
        raise UnsupportedOpError(f"SPU's compiler refused: {reason(error)}\n{text[:2000]}") from error
    return compiled.decode() if isinstance(compiled, bytes) else compiled


def reason(error: RuntimeError) -> str:
    """Return the part of an SPU error that precedes its stack trace, on one line."""
    return " ".join(re.split(r"[Ss]tack ?trace", str(error))[0].removeprefix("what:").split())


def _expand(module: ir.Module, expansions: Mapping[str, Callable[..., jax.Array]]) -> None:
    for op in list(ir.walk(module.operation)):
        if op.name in expansions and ir.is_float(op.results[0]):
            ir.rewrite(op, expansions[op.name])


def _refuse_unsupported(module: ir.Module) -> None:
    for op in ir.walk(module.operation):
        if why := unsupported(op):
            raise UnsupportedOpError(f"{ir.path_of(op) or 'the program'} ({ir.source_of(op)}): {why}")


def _simplify_comparators(module: ir.Module) -> None:
    """Remove jax's treatment of -0 and NaN from the comparators of sorts.

    Fixed point has neither value, and SPU fails on the shapes of this code.
    """
    for sort in [op for op in ir.walk(module.operation) if op.name == "stablehlo.sort"]:
        for select in [op for op in ir.walk(sort) if op.name == "stablehlo.select"]:
            chosen = ir.define(select.operands[1])
            if chosen is not None and chosen.name == "stablehlo.constant" and ir.is_float(select.results[0]):
                ir.replace_all_uses(select.results[0], select.operands[2])
    ir.run_passes(module, "func.func(canonicalize)")


def _refuse_reveals(code: str) -> None:
    """Raise UnsupportedOpError for a program that SPU would run by opening a secret, or not at all."""
    in_condition = False
    for line in code.splitlines():
        if re.search(r"topk|partial_sort", line):
            raise UnsupportedOpError("SPU's top_k opens comparisons of shuffled values: sort instead")
        if line.lstrip().startswith("cond {"):
            in_condition = True
        elif in_condition and "pphlo.return" in line:
            in_condition = False
            if "secret" in line:
                raise UnsupportedOpError(
                    "a while loop has a secret condition: loop a public number of times and select results"
                )
        if "pphlo.dynamic_update_slice" in line:
            types = re.findall(r"tensor<[^>]*(?:<[^>]*>)?>", line[line.rindex(": (") : line.rindex("->")])
            if any("secret" in each for each in types[2:]):
                raise UnsupportedOpError(
                    "an update or scatter at a secret index would open the index: write "
                    "jnp.where(jnp.arange(n) == index, new, old) instead"
                )
