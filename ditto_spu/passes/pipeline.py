"""The passes before any choice of formats: from a traced call to what the parties compute."""

from ditto_spu import ir
from ditto_spu.frontend.owner_program import Program
from ditto_spu.frontend.trace import Traced
from ditto_spu.passes.fuse.fuse import fuse
from ditto_spu.passes.owners.hoist import hoist


def program_of(traced: Traced) -> Program:
    """Patterns as composites, and every owner's work taken out."""
    return hoist(fuse(ir.parse(traced.module_text), traced.public), traced.arguments)
