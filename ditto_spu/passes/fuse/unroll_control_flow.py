"""Remove regions from control flow on secret values: unroll loops, and choose branches by select.

This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.passes.analysis.visibility import visibility

MAX_TURNS = 512
MAX_OPERATIONS = 20_000  # operations of all turns of a loop together
_DEPTH = 64  # the most operations that compute a constant


def flatten(module: ir.Module, public: Sequence[bool]) -> None:
    """Rewrite @main in place until only loops are left that cannot be unrolled. Calls must be inlined.

    A loop whose number of turns is known at compile time (scan, fori_loop) is unrolled, up to MAX_TURNS turns
    and MAX_OPERATIONS operations. Kernels can then serve the operations in it. Other loops stay for SPU,
    which runs a public number of turns. All branches of a conditional are computed, and a select takes the
    result. Where the index is a constant, only its branch is computed.
    public: whether each argument of @main is public.
    """
    while True:
        secret = visibility(module, public)
        block = ir.body(ir.main(module))
        for op in ir.ops(block):
            if any(secret[each] for each in op.results) and _rewritten(op):
                break
        else:
            return
        ir.erase_dead(block)


def _rewritten(op: ir.Op) -> bool:
    if ir.is_effect(op):
        return False
    if kind(op) == "while":
        return _unroll(op)
    if kind(op) in ("case", "if"):
        _choose(op)
        return True
    if kind(op) == "optimization_barrier":  # jax.checkpoint puts it around work that it computes again
        for old, new in zip(op.results, op.operands, strict=True):
            ir.replace_all_uses(old, new)
        op.erase()
        return True
    return False


# --- branches ---


def _choose(op: ir.Op) -> None:
    index = op.operands[0]
    blocks = [region.blocks[0] for region in op.regions]
    known = _constant(index)
    if known is not None:
        place = int(known) if kind(op) == "case" else int(not known)
        results = ir.splice(blocks[place if 0 <= place < len(blocks) else -1], [], op)
    else:
        branches = [ir.splice(block, [], op) for block in blocks]
        results = []
        for values in zip(*branches, strict=True):
            if all(each == values[0] for each in values):
                results.append(values[0])
            else:
                results += ir.emit(_selected, [index, *values], op, op.location)
    for old, new in zip(op.results, results, strict=True):
        ir.replace_all_uses(old, new)
    op.erase()


def _selected(index: Array, *values: Array) -> Array:
    """Return the value at that index, or the last value if there is none.

    A boolean chooses the first value if it is true.
    """
    if index.dtype == bool:
        return jnp.where(index, values[0], values[1])
    chosen = values[-1]
    for place, value in enumerate(values[:-1]):
        chosen = jnp.where(index == place, value, chosen)
    return chosen


# --- loops ---


def _unroll(op: ir.Op) -> bool:
    """Replace a loop by its turns, if their number is known and not too large."""
    condition, body = (region.blocks[0] for region in op.regions)
    known = {place: value for place, each in enumerate(op.operands) if (value := _constant(each)) is not None}
    advance = _advance(body, known)
    test = _computed(condition, [0], list(known))
    if test is None or advance is None:
        return False
    turns: list[Mapping[int, Any]] = []
    while bool(test(known)[0]):
        turns.append(known)
        if len(turns) > MAX_TURNS or len(turns) * len(ir.ops(body)) > MAX_OPERATIONS:
            return False
        known = advance(known)
    state = list(op.operands)
    for turn in turns:
        for place, value in turn.items():
            state[place] = ir.scalar(value, op.operands[place], op, op.location)
        state = ir.splice(body, state, op)
    for old, new in zip(op.results, state, strict=True):
        ir.replace_all_uses(old, new)
    op.erase()
    return True


Step = Callable[[Mapping[int, Any]], list[Any]]


def _advance(body: ir.Block, known: dict[int, Any]) -> Callable[[Mapping[int, Any]], dict[int, Any]] | None:
    """Return a function that computes the known variables after one turn.

    This removes from `known` the variables that depend on unknown ones.
    """
    while known:
        kept = [place for place in known if _computed(body, [place], list(known)) is not None]
        if len(kept) == len(known):
            step = _computed(body, kept, kept)
            assert step is not None
            return lambda values: dict(zip(kept, step(values), strict=True))
        for place in [each for each in known if each not in kept]:
            del known[place]
    return None


def _computed(block: ir.Block, outputs: Sequence[int], places: Sequence[int]) -> Step | None:
    """Return a function that computes what the terminator returns at `outputs`.

    None means that these values depend on more than the arguments at `places`.
    """
    inner = ir.ops(block)
    wanted = [inner[-1].operands[each] for each in outputs]
    arguments = list(block.arguments)
    inputs = [arguments[place] for place in places]
    needed, chosen = set(wanted), []
    for op in reversed(inner[:-1]):
        if any(each in needed for each in op.results):
            if ir.is_effect(op) or ir.captured(op):
                return None
            chosen.append(op)
            needed.update(op.operands)
    made = {each for op in chosen for each in op.results}
    if any(each not in made and each not in inputs for each in needed):
        return None
    text = ir.extract(chosen[::-1], inputs, wanted, "turn")
    return lambda values: ir.evaluate(text, [values[place] for place in places])


def _constant(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """Return a scalar that is computed from constants alone, else None. Loops count by such scalars."""
    if ir.shape(value) != ():
        return None
    operations: list[ir.Op] = []
    if not _from_constants(value, operations):
        return None
    if len(operations) == 1:
        return np.asarray(ir.constant_value(operations[0]))
    return np.asarray(ir.evaluate(ir.extract(operations, [], [value], "constant"), [])[0])


def _from_constants(value: ir.Value, operations: list[ir.Op]) -> bool:
    """Gather the operations that compute a value, in order.

    The result is False if they are not scalar arithmetic on constants.
    """
    op = ir.define(value)
    if op is None or ir.shape(value) != () or len(op.regions) or len(operations) > _DEPTH:
        return False
    if op in operations:
        return True
    if not op.operands and kind(op) != "constant":
        return False
    if not all(_from_constants(each, operations) for each in op.operands):
        return False
    operations.append(op)
    return True
