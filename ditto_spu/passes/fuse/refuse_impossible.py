"""Refuse, before any other step, operations that neither a kernel nor SPU can compute on secret values."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.supported import refused
from ditto_spu.passes.analysis.visibility import visibility


def refuse(module: ir.Module, public: Sequence[bool]) -> None:
    """Check every operation of @main that reads a secret value. Calls must be inlined.

    Raises UnsupportedOpError, with path and line, for the first operation that cannot be computed.
    """
    secret = visibility(module, public)
    for op in ir.walk(ir.main(module)):
        if op.name.startswith("chlo.") or not any(secret.get(each, False) for each in op.operands):
            continue
        if why := refused(op):
            path = ir.path_of(op)
            raise UnsupportedOpError(f"{path or 'the program'} ({ir.source_of(op)}): {why}")
