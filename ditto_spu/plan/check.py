"""Checks whether a party may run a plan that it did not compile: all of it is known and consistent."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTHS
from ditto_kernels.protocol.split_dealers import cut
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import PARTIES
from ditto_spu import ir
from ditto_spu.errors import InputError
from ditto_spu.plan.plan import (
    INTEGER,
    SPU_FORMAT,
    KernelStep,
    LocalStep,
    Plan,
    PublicStep,
    SpuStep,
    Var,
    kind,
    used,
)
from ditto_spu.plan.program_check import ProgramSize, parse_bounded, program_size
from ditto_spu.plan.resources import Need, PlanLimits, kernel_size, plan_bytes

_MOST_CHARACTERS = 1 << 12  # of a name or path: they become part of errors and logs
USES = ("share", "affine", "factor", "plain")
# The operations that a step's program may have. None of them calls out, communicates or may run for ever. A
# composite runs as its decomposition, which is a function of the same program.
OPERATIONS = frozenset(
    "stablehlo." + name
    for name in (
        *("abs", "add", "and", "broadcast_in_dim", "cbrt", "ceil", "clamp", "compare", "concatenate"),
        *("constant", "convert", "convolution", "cosine", "count_leading_zeros", "divide", "dot_general"),
        *("dynamic_slice", "dynamic_update_slice", "exponential", "exponential_minus_one", "floor", "gather"),
        *("iota", "is_finite", "log", "log_plus_one", "logistic", "maximum", "minimum", "multiply", "negate"),
        *("not", "or", "pad", "power", "popcnt", "reduce", "reduce_window", "remainder", "reshape", "return"),
        *("reverse", "round_nearest_afz", "round_nearest_even", "rsqrt", "scatter", "select", "shift_left"),
        *("shift_right_arithmetic", "shift_right_logical", "sign", "sine", "slice", "sort", "sqrt"),
        *("subtract", "tan", "tanh", "transpose", "xor"),
    )
) | {"func.func", "func.return", "func.call", "builtin.module", "stablehlo.composite"}


def check_plan(plan: Plan, limits: PlanLimits) -> Need:
    """Raise InputError if a party should not run the plan. The error names the fault.

    Every value must be defined once, and before its use. Every step must be of a known kind with known
    attributes, and its results must have the shapes and formats that the plan declares. Of programs for SPU
    the sizes and types are checked here, and the operations where they are compiled.

    A hostile plan may crash the parser or the compiler, or take them long. So a party lets a process of its
    own check a client's plan (`cluster/party/plan_checker.py`).

    Returns what one call takes.
    """
    texts = (plan.name, plan.config, *(each.path for each in (*plan.vars, *plan.inputs, *plan.steps)))
    if max(map(len, texts)) > _MOST_CHARACTERS:
        raise InputError(f"a name or path of the plan has more than {_MOST_CHARACTERS} characters")
    if plan.masked and plan.mask_dealer not in range(PARTIES):
        raise InputError("the dealer of masked shares is none of the parties")
    if not plan.outputs or not plan.steps:
        raise InputError("the plan computes nothing")
    for number, var in enumerate(plan.vars):
        _check_var(number, var, limits.value_bytes)
    if sorted(number for stage in plan.stages for number in stage) != list(range(len(plan.steps))):
        raise InputError("the plan's stages do not name every step once")
    sizes: dict[int, Need] = {}
    work = 0
    known = {each.var for each in plan.inputs}
    if len(known) != len(plan.inputs) or not known <= set(range(len(plan.vars))):
        raise InputError("the plan's inputs are not distinct variables")
    for stage in plan.stages:
        if len(stage) != 1 and not all(isinstance(plan.steps[number], KernelStep) for number in stage):
            raise InputError("only kernels share a stage")
        made: set[int] = set()
        for number in stage:
            step = plan.steps[number]
            where = f"step {number} ({kind(step)})"
            if not set(used(step)) <= known:
                raise InputError(f"{where} reads a variable that is not defined before it")
            for result in step.outputs:
                if result in known or result in made or result >= len(plan.vars):
                    raise InputError(f"{where} defines variable {result} wrongly, or a second time")
                made.add(result)
            sizes[number] = _check_step(plan, step, where, limits.value_bytes)
            work += sizes[number].work
            whole = isinstance(step, LocalStep | PublicStep)
            if work > limits.work or (whole and sizes[number].work > limits.piece):
                raise InputError(f"{where} is refused: the plan takes longer than a request may take")
        known |= made
    if plan.guard is not None and (plan.guard != plan.outputs[-1] or plan.vars[plan.guard].fxp != INTEGER):
        raise InputError("the plan's guard is not its last output, or no shared integer")
    if not set(plan.outputs) <= known:
        raise InputError("an output of the plan is never computed")
    needed = plan_bytes(plan, sizes)
    if needed > limits.total_bytes:
        raise InputError(
            f"the plan needs {needed} bytes at a time, but a request may have {limits.total_bytes}"
        )
    return Need(needed, work)


def _check_var(number: int, var: Var, max_bytes: int) -> None:
    if var.dtype not in ir.DTYPES.values():
        raise InputError(f"variable {number} has dtype '{var.dtype[:40]}', which does not exist")
    if len(var.shape) > 16 or math.prod(var.shape) * 8 > max_bytes:
        raise InputError(f"variable {number} of shape {list(var.shape)[:16]} is larger than the limit")
    if var.range is not None and not 0 < var.range < math.inf:
        raise InputError(f"variable {number} has the range {var.range:g}, which is no positive number")
    if var.fxp is None and var.dtype == "bfloat16":
        raise InputError(f"variable {number} is public bfloat16, which no message carries: use float32")


def _check_step(plan: Plan, step: Any, where: str, max_bytes: int) -> Need:
    """Check a step, and return what it takes."""
    try:
        if isinstance(step, KernelStep):
            return _check_kernel(plan, step)
        if isinstance(step, LocalStep):
            arguments = [_local_type(plan.vars[each.var], each) for each in step.inputs]
            results = [(plan.vars[var].shape, _format(plan.vars[var]).dtype) for var in step.outputs]
            size = _check_program(step.text, arguments, results, max_bytes)
            return Need(2 * size.bytes, 2 * size.work)  # each party has two components
        if isinstance(step, SpuStep):
            _check_spu(plan, step)
        elif any(plan.vars[var].fxp is not None for var in (*step.inputs, *step.outputs)):
            raise ValueError("it computes on secrets")
        arguments, results = (
            [(plan.vars[v].shape, np.dtype(plan.vars[v].dtype)) for v in each]
            for each in (step.inputs, step.outputs)
        )
        operations = None if isinstance(step, SpuStep) else OPERATIONS
        size = _check_program(step.text, arguments, results, max_bytes, operations)
        return Need(size.bytes, size.work)
    except Exception as error:  # kernels and the parser raise errors of many types
        raise InputError(f"{where} is refused: {type(error).__name__}: {str(error)[:300]}") from None


def _check_kernel(plan: Plan, step: KernelStep) -> Need:
    """Check the kernel, its dealers, its attributes and its result, and return what it takes."""
    if step.kernel not in KERNELS:
        raise ValueError(f"there is no kernel '{step.kernel[:40]}'")
    dealers = set(step.dealers)
    if plan.masked and step.dealers != (plan.mask_dealer,):
        raise ValueError("with masked shares one party deals for everything")
    if len(step.outputs) != 1 or not 1 <= len(step.dealers) == len(dealers & set(range(PARTIES))):
        raise ValueError("one result and dealers among the parties are expected")
    if step.worth not in ROUND_WORTHS:
        raise ValueError(f"a saved round cannot be worth {step.worth} bytes")
    kernel, out = KERNELS[step.kernel], plan.vars[step.outputs[0]]
    attributes: dict[str, Any] = dict(step.attributes)
    operands = [plan.vars[var] for var in step.inputs]
    parts = len(step.dealers)
    if parts > 1 and cut(kernel, [each.shape for each in operands], parts, **attributes) is None:
        raise ValueError(f"it cannot be cut into {parts} parts")
    if len(attributes) != len(step.attributes):
        raise ValueError("an attribute is repeated")
    inspect.signature(kernel.run).bind(None, *operands, out=out, **attributes)
    result = kernel.result(*(Spec(each.shape, each.fxp) for each in operands), out=_format(out), **attributes)
    if result != Spec(out.shape, out.fxp):
        raise ValueError(f"its result is {result.fxp}{list(result.shape)}, but {out} is declared")
    return kernel_size(plan, step)


def _local_type(var: Var, entry: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if entry.use not in USES or (entry.use == "share") != (var.fxp is not None):
        raise ValueError(f"variable {entry.var} cannot be used as '{entry.use[:40]}'")
    if entry.use == "share":
        return var.shape, _format(var).dtype
    if entry.use == "plain":
        return var.shape, np.dtype(var.dtype)
    if entry.fxp is None:
        raise ValueError(f"public variable {entry.var} has no format to be encoded in")
    return var.shape, entry.fxp.dtype


def _format(var: Var) -> Fxp:
    if var.fxp is None:
        raise ValueError("a shared result is declared public")
    return var.fxp


def _check_spu(plan: Plan, step: SpuStep) -> None:
    """Check types and formats. SPU's own compiler says which operations it runs."""
    for var in (*step.inputs, *step.outputs):
        info = plan.vars[var]
        wanted = SPU_FORMAT if info.dtype in ("float32", "float64", "bfloat16") else INTEGER
        if info.fxp is not None and info.fxp != wanted:
            raise ValueError(f"SPU computes {info.dtype} in {wanted}, not in {info.fxp}")
    if any(plan.vars[var].fxp is None for var in step.outputs):
        raise ValueError("its results are declared public")


def _check_program(
    text: str,
    arguments: list[Any],
    results: list[Any],
    max_bytes: int,
    operations: frozenset[str] | None = OPERATIONS,
) -> ProgramSize:
    """Check a program and return its size. `operations` are all that it may have, or None for any."""
    module = parse_bounded(text)
    for op in ir.walk(module.operation):
        if operations is not None and op.name not in operations:
            raise ValueError(f"its program holds '{op.name}'")
    _check_types(module, arguments, results)
    size = program_size(module)
    if size.largest > max_bytes:
        raise ValueError(f"a value inside its program has {size.largest} bytes, more than the limit")
    return size


def _check_types(module: ir.Module, arguments: list[Any], results: list[Any]) -> None:
    returned = ir.ops(ir.body(ir.main(module)))[-1].operands
    for found, wanted, what in (
        (ir.arguments(module), arguments, "arguments"),
        (list(returned), results, "results"),
    ):
        types = [(ir.shape(each), ir.dtype(each)) for each in found]
        if types != [(tuple(shape), np.dtype(dtype)) for shape, dtype in wanted]:
            raise ValueError(f"its program's {what} differ from the plan's variables")
