"""Refuse, before anything else, what can be computed on secret values by nobody."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.supported import refused
from ditto_spu.passes.analysis.visibility import visibility


def refuse(module: ir.Module, public: Sequence[bool]) -> None:
    """UnsupportedOpError, with path and line, for the first such operation of @main; calls are inlined."""
    secret = visibility(module, public)
    for op in ir.walk(ir.main(module)):
        if op.name.startswith("chlo.") or not any(secret.get(each, False) for each in op.operands):
            continue
        if why := refused(op):
            path = ir.path_of(op)
            raise UnsupportedOpError(f"{path or 'the program'} ({ir.source_of(op)}): {why}")
