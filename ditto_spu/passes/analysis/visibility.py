"""Tell which values of a program are secret.

A value is public if and only if everything that it is computed from is public.
"""

from collections.abc import Sequence

from ditto_spu import ir
from ditto_spu.errors import CompileError


def visibility(module: ir.Module, public: Sequence[bool]) -> dict[ir.Value, bool]:
    """Return for each value of @main, and of the regions in it, whether it is secret.

    public: whether each argument of @main is public, one entry per argument.
    Raises CompileError if the number of entries differs from the number of arguments.
    """
    arguments = ir.arguments(module)
    if len(arguments) != len(public):
        raise CompileError(
            f"the program has {len(arguments)} arguments, but {len(public)} visibilities were given"
        )
    secret = {value: not shown for value, shown in zip(arguments, public, strict=True)}
    _visit(ir.body(ir.main(module)), secret)
    return secret


def _visit(block: ir.Block, secret: dict[ir.Value, bool]) -> None:
    for op in ir.ops(block):
        if op.name == "stablehlo.while":
            _visit_while(op, secret)
            continue
        operands = any(secret[each] for each in op.operands)
        inner = False
        for region in op.regions:
            for each in region.blocks:
                # The body of a reduce, sort or scatter reads the operands. The branches of a case have no
                # arguments.
                secret.update(dict.fromkeys(each.arguments, operands))
                _visit(each, secret)
                inner |= any(secret[value] for value in ir.ops(each)[-1].operands)
        secret.update(dict.fromkeys(op.results, operands or inner))


def _visit_while(op: ir.Op, secret: dict[ir.Value, bool]) -> None:
    """Mark the variables of a loop.

    A variable is secret if it starts secret or becomes secret. All variables are secret if the number of
    turns is.
    """
    condition, turn = (region.blocks[0] for region in op.regions)
    state = [secret[each] for each in op.operands]
    while True:
        for block in (condition, turn):
            secret.update(zip(block.arguments, state, strict=True))
            _visit(block, secret)
        after = [secret[each] for each in ir.ops(turn)[-1].operands]
        hidden = secret[ir.ops(condition)[-1].operands[0]]
        new = [hidden or old or late for old, late in zip(state, after, strict=True)]
        if new == state:
            break
        state = new
    secret.update(zip(op.results, state, strict=True))
