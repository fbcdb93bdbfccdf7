"""Cut the cast module into steps: one public step, linear steps on shares, kernel steps and SPU steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import DittoError, UnsupportedOpError
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.ops import record_of
from ditto_spu.ops.cast import ENCODED, LIFTED, is_cast, read_cast
from ditto_spu.ops.decision import Kind, decided, read, read_entry
from ditto_spu.ops.op import Call
from ditto_spu.passes.analysis.classify import LAYOUT
from ditto_spu.passes.analysis.guarded import Guarding, guarding
from ditto_spu.passes.analysis.reach import reach
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.steps.guard import Watch, add_guard
from ditto_spu.passes.steps.round_worths import choose_worths
from ditto_spu.passes.steps.schedule import balance, schedule, step_cost
from ditto_spu.plan.plan import (
    INTEGER,
    SPU_FORMAT,
    Attributes,
    Input,
    KernelStep,
    LocalInput,
    LocalStep,
    Plan,
    PublicStep,
    SpuStep,
    Step,
    Var,
)

_ON_SPU = "spu"
INTEGER_TYPES = {8: "i8", 16: "i16", 32: "i32", 64: "i64"}


@dataclass
class _Builder:
    """The plan under construction."""

    secret: dict[ir.Value, bool]
    guarding: Guarding = field(default_factory=Guarding)  # what the guard watches
    kept: set[ir.Value] = field(default_factory=set)  # values that need a variable for the guard
    watch: Watch = field(default_factory=Watch)  # what the guard watches, as variables
    vars: list[Var] = field(default_factory=list)
    index: dict[ir.Value, int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    pending: list[ir.Op] = field(default_factory=list)
    pending_kind: str = ""
    wanted_public: dict[ir.Value, int] = field(default_factory=dict)

    def declare(self, value: ir.Value, fxp: Fxp | None, path: str = "", range_: float | None = None) -> int:
        self.vars.append(Var(ir.shape(value), str(ir.dtype(value)), fxp, path, range_))
        self.index[value] = len(self.vars) - 1
        return self.index[value]

    def use(self, value: ir.Value) -> int:
        """Return the variable of a value. A public value is noted for the public step."""
        if value not in self.index:
            if self.secret[value]:
                raise AssertionError(f"{value} is used before it is made")
            self.wanted_public[value] = self.declare(value, None)
        return self.index[value]


def segment(
    module: ir.Module,
    public: Sequence[bool],
    argument_paths: Sequence[str],
    name: str,
    config: str,
    masked: bool = False,
    guard: bool = False,
    network: Network = LOOPBACK,
) -> Plan:
    """Return the plan of a module that has been through insert_casts.

    public: whether each argument of @main is public.
    argument_paths: the path of each argument.
    name, config: the names of the program and of the configuration, which the plan carries.
    masked: whether the plan uses masked shares, with party 0 as the only dealer, which works in the offline
        phase.
    guard: whether the parties look for values that leave their ranges.
    network: the network between the parties, for which kernels choose their protocols.
    """
    module = ir.clone(module)  # `_widen_indices` writes operations
    watched = guarding(module, public) if guard else Guarding()
    builder = _Builder(visibility(module, public), watched, watched.taken)
    operations = ir.ops(ir.body(ir.main(module)))
    inputs = []
    formats = read_entry(module).formats
    for argument, fxp, path in zip(ir.arguments(module), formats, argument_paths, strict=True):
        inputs.append(Input(path, builder.declare(argument, fxp, path)))
    for op in operations[:-1]:
        if any(builder.secret[each] for each in op.results):
            _visit(builder, op)
    _flush(builder)
    outputs = tuple(builder.use(each) for each in operations[-1].operands)
    public_step = _public_step(builder, ir.ops(ir.body(ir.main(module)))[:-1])
    made = ([public_step] if public_step else []) + builder.steps
    given = {each.var for each in inputs}
    builder.watch.values(watched, builder.use)
    bit = add_guard(made, builder.vars, builder.watch, given)
    outputs = outputs if bit is None else (*outputs, bit)
    steps = balance(choose_worths(made, builder.vars, network, masked), builder.vars, network)
    variables, stages = tuple(builder.vars), schedule(steps, builder.vars)
    plan = Plan(name, config, variables, tuple(inputs), tuple(steps), outputs, stages, guard=bit)
    return plan.dealt_by(0) if masked else plan


def _visit(builder: _Builder, op: ir.Op) -> None:
    decision = read(op)
    if decision is None:
        _cast(builder, op)
    elif decision.kind is Kind.RETAG:
        value = next(each for each in op.operands if builder.secret[each])
        _identity(builder, op, value, LocalInput(_ready(builder, value), "share"))
    elif decision.kind in (Kind.LOCAL, Kind.SCALE):
        _widen_indices(builder, op)
        _gather(builder, op, f"local{decision.computed.ring_bits}{_integer_element(op)}")
    elif decision.kind is Kind.SPU:
        _gather(builder, op, _ON_SPU)
    else:
        _flush(builder)
        _kernel(builder, op)


def _widen_indices(builder: _Builder, op: ir.Op) -> None:
    """Let public indices have 64 bits where a local step retypes integers of their type as ring elements."""
    for place, each in enumerate(list(op.operands)):
        index = not builder.secret[each] and place not in LAYOUT.get(op.name, (place,))
        if index and ir.element(each) == _integer_element(op) not in ("", "i1", "i64"):
            (op.operands[place],) = ir.emit(_wide, [each], op, op.location)
            builder.secret[op.operands[place]] = False


def _wide(index: jax.Array) -> jax.Array:
    return index.astype(jnp.int64)


def _gather(builder: _Builder, op: ir.Op, group: str) -> None:
    if builder.pending_kind != group or (group != _ON_SPU and _conflicts(builder, op)):
        _flush(builder)
    builder.pending_kind = group
    builder.pending.append(op)


def _cast(builder: _Builder, op: ir.Op) -> None:
    cast, value, result = read_cast(op), op.operands[0], op.results[0]
    if cast.source == ENCODED:
        builder.index[result] = builder.index[value]
        return
    if cast.source == LIFTED:
        _identity(builder, op, value, LocalInput(builder.use(value), "affine", cast.target))
        return
    if result in builder.index:
        return  # it is part of the product before it
    _flush(builder)
    operand = builder.use(value)
    var = builder.declare(result, cast.target, ir.path_of(op), builder.vars[operand].range)
    _add_kernel(builder, ir.path_of(op), "cast", (operand,), var, ())
    builder.watch.cast(op, var, builder.guarding, builder.use)


def _ready(builder: _Builder, value: ir.Value) -> int:
    """Return the variable of a secret value, after the step that computes it."""
    _flush(builder)
    return builder.use(value)


def _identity(builder: _Builder, op: ir.Op, value: ir.Value, entry: LocalInput) -> None:
    """Add a step that keeps the ring elements.

    They are read in another format, or lifted from a public value.
    """
    _flush(builder)
    fxp = read_cast(op).target if is_cast(op) else decided(op).computed
    var = builder.declare(op.results[0], fxp, ir.path_of(op), reach(op.results[0]))
    text = ir.retype(ir.extract([], [value], [value], "identity"), INTEGER_TYPES[fxp.ring_bits])
    builder.steps.append(LocalStep(ir.path_of(op), text, (entry,), (var,)))


def _fused_cast(builder: _Builder, op: ir.Op) -> ir.Value | None:
    """Return the cast that is the only user of a product, or None."""
    users = ir.users(op.results[0])
    if len(users) == 1 and is_cast(users[0]):
        return users[0].results[0]
    return None


def _kernel(builder: _Builder, op: ir.Op) -> None:
    decision = decided(op)
    record = record_of(op, decision.kind)
    assert record is not None
    call = record.kernel_call(Call(op, decision, builder.secret.__getitem__, reach))
    inputs = tuple(builder.use(each) for each in call.operands)
    cast = _fused_cast(builder, op) if decision.natural is not None else None
    result, fxp = (op.results[0], decision.computed) if cast is None else (cast, decision.out)
    var = builder.declare(result, fxp, decision.path, reach(result))
    _add_kernel(builder, decision.path, call.kernel, inputs, var, call.attributes)
    _require_kernel(builder, op)
    if op.results[0] in builder.guarding.wraps:
        builder.watch.product(builder.steps[-1], op.results[0], builder.guarding)


def _require_kernel(builder: _Builder, op: ir.Op) -> None:
    """Raise UnsupportedOpError, with path and line, if the last kernel cannot take its operands."""
    step = builder.steps[-1]
    assert isinstance(step, KernelStep)
    try:
        step_cost(step, builder.vars)
    except DittoError:
        raise
    except Exception as error:
        formats = ", ".join(str(builder.vars[var].fxp or "public") for var in step.inputs)
        why = str(error) if isinstance(error, ValueError) else "it takes no public operand there"
        raise UnsupportedOpError(
            f"{step.path or 'the program'} ({ir.source_of(op)}): the kernel '{step.kernel}' cannot take "
            f"operands in {formats}: {why}; choose other formats for this path, make the "
            "operands secret arguments, or write it with other operations"
        ) from error


def _add_kernel(
    builder: _Builder, path: str, name: str, inputs: tuple[int, ...], var: int, attributes: Attributes
) -> None:
    builder.steps.append(KernelStep(path, name, inputs, (var,), attributes, (0,)))


def _flush(builder: _Builder) -> None:
    """Turn the gathered operations into one step."""
    group, kind = builder.pending, builder.pending_kind
    builder.pending, builder.pending_kind = [], ""
    if not group:
        return
    made = {result for op in group for result in op.results}
    operands = list(
        dict.fromkeys(each for op in group for each in (*op.operands, *ir.captured(op)) if each not in made)
    )
    outputs = [
        result
        for op in group
        for result in op.results
        if result in builder.kept or any(user not in group for user in ir.users(result))
    ]
    path = ir.path_of(group[-1])
    if kind == _ON_SPU:
        constants = [
            maker
            for each in operands
            if (maker := ir.define(each)) is not None and maker.name == "stablehlo.constant"
        ]
        known = {result for op in constants for result in op.results}
        operands = [each for each in operands if each not in known]
        text = ir.extract([*constants, *group], operands, outputs, _ON_SPU)
        inputs = tuple(builder.use(each) for each in operands)
        results = tuple(builder.declare(each, _format(group, each), path) for each in outputs)
        builder.steps.append(SpuStep(path, text, inputs, results))
        return
    _local_step(builder, group, operands, outputs, path)


def _local_step(
    builder: _Builder, group: list[ir.Op], operands: list[ir.Value], outputs: list[ir.Value], path: str
) -> None:
    entries = {
        each: _local_input(builder, op, place)
        for op in group
        for place, each in enumerate(op.operands)
        if each in operands
    }
    ring = decided(group[0]).computed.ring_bits
    text = ir.extract(group, list(entries), outputs, "local")
    text = ir.retype(text, INTEGER_TYPES[ring], _integer_element(group[0]))
    results = tuple(builder.declare(each, _format(group, each), path, reach(each)) for each in outputs)
    builder.steps.append(LocalStep(path, text, tuple(entries.values()), results))


def _local_input(builder: _Builder, op: ir.Op, place: int) -> LocalInput:
    """Tell how an operation of a linear step uses one of its operands."""
    value = op.operands[place]
    var = builder.use(value)
    if builder.secret[value]:
        return LocalInput(var, "share")
    decision = decided(op)
    if decision.kind is Kind.SCALE:
        return LocalInput(var, "factor", decision.factor)
    is_data = place in LAYOUT.get(op.name, tuple(range(len(op.operands))))
    if not is_data:
        return LocalInput(var, "plain")
    return LocalInput(var, "affine", decision.out)


def _conflicts(builder: _Builder, op: ir.Op) -> bool:
    """Tell whether the gathered operations use a public operand of `op` in another way."""
    for place, each in enumerate(op.operands):
        if builder.secret[each]:
            continue
        mine = _local_input(builder, op, place)
        for other in builder.pending:
            for at, value in enumerate(other.operands):
                if value == each and _local_input(builder, other, at) != mine:
                    return True
    return False


def _format(group: Sequence[ir.Op], value: ir.Value) -> Fxp:
    op = next(each for each in group if value in list(each.results))
    decision = decided(op)
    if decision.kind is Kind.SPU:
        return SPU_FORMAT if ir.is_float(value) else INTEGER
    return decision.computed


def _integer_element(op: ir.Op) -> str:
    """Return the element type of rearranged integers or booleans, or '' for floats.

    Shares of integers and booleans are in ring 64.
    """
    return "" if ir.is_float(op.results[0]) else ir.element(op.results[0])


def _public_step(builder: _Builder, operations: Sequence[ir.Op]) -> PublicStep | None:
    """Return one step with all public operations that a step or an output needs, or None."""
    wanted = builder.wanted_public
    if not wanted:
        return None
    needed: set[ir.Value] = set(wanted)
    chosen: list[ir.Op] = []
    for op in reversed(operations):
        if any(result in needed for result in op.results):
            chosen.insert(0, op)
            needed.update((*op.operands, *ir.captured(op)))
    made = {result for op in chosen for result in op.results}
    inputs = [
        value for value in builder.index if value in needed and value not in made and value not in wanted
    ]
    text = ir.extract(chosen, inputs, list(wanted), "public")
    return PublicStep("", text, tuple(builder.index[each] for each in inputs), tuple(wanted.values()))
