"""Find the composites of all patterns, turn masks into booleans, and fold scales into softmax.

This is the first pass.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from ditto_spu import ir
from ditto_spu.ops import OPS
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.fuse.booleans import expand_booleans
from ditto_spu.passes.fuse.convolutions_to_products import rewrite_convolutions
from ditto_spu.passes.fuse.elementary_functions import expand_functions
from ditto_spu.passes.fuse.empty_values import drop_empty_values
from ditto_spu.passes.fuse.group_norms import rewrite_group_norms
from ditto_spu.passes.fuse.infinite_masks import bound_infinite_masks
from ditto_spu.passes.fuse.integers import expand_bits, expand_divisions, saturate_conversions
from ditto_spu.passes.fuse.linear_algebra import expand_linear_algebra
from ditto_spu.passes.fuse.reductions import expand_reductions
from ditto_spu.passes.fuse.refuse_impossible import refuse
from ditto_spu.passes.fuse.relative_changes import subtract_first
from ditto_spu.passes.fuse.root_scales import take_scales_out
from ditto_spu.passes.fuse.secret_places import expand_secret_places
from ditto_spu.passes.fuse.selected_places import expand_selections
from ditto_spu.passes.fuse.sign_bits import compare_signs
from ditto_spu.passes.fuse.simplify import simplify
from ditto_spu.passes.fuse.softmax_masks_and_scales import rewrite_scores
from ditto_spu.passes.fuse.sorting_networks import expand_sorts
from ditto_spu.passes.fuse.unroll_control_flow import flatten


def fuse(module: ir.Module, public: Sequence[bool]) -> ir.Module:
    """Return a copy of the module in which every pattern on secret values is one composite.

    Its plaintext result is the same, except where fixed point cannot hold the original. An index out of range
    takes the nearest row instead of NaN, and a softmax row whose every position is masked is uniform. A
    secret mask that is given as numbers is taken to hold 0 and 1.
    public: whether each argument of @main is public.
    Raises UnsupportedOpError for an operation that cannot be computed on secret values.
    """
    fused = ir.clone(module)
    ir.inline_calls(fused)
    drop_empty_values(fused)
    expand_linear_algebra(fused, visibility(fused, public))
    compare_signs(fused, visibility(fused, public))
    expand_bits(fused, visibility(fused, public))
    ir.erase_dead(ir.body(ir.main(fused)))
    refuse(fused, public)
    flatten(fused, public)
    expand_bits(fused, visibility(fused, public))  # what was inside of loops
    ir.run_passes(fused, "canonicalize,cse")
    simplify(fused, fills=False)  # the pattern of look-ups reads them
    ir.run_passes(fused, "canonicalize,cse")
    rewrite_convolutions(fused, public)
    expand_booleans(fused, visibility(fused, public))
    ir.run_passes(fused, "canonicalize,cse")
    rewrite_group_norms(fused, visibility(fused, public))
    bound_infinite_masks(fused, visibility(fused, public))
    saturate_conversions(fused, visibility(fused, public))
    ir.run_passes(fused, "canonicalize,cse")
    expand_sorts(fused, visibility(fused, public))
    _replace_patterns(fused, public)
    expand_selections(fused, visibility(fused, public))
    expand_reductions(fused, visibility(fused, public))
    expand_divisions(fused, visibility(fused, public))
    expand_secret_places(fused, visibility(fused, public))
    rewrite_scores(fused, public)
    take_scales_out(fused, visibility(fused, public))
    subtract_first(fused, visibility(fused, public))
    expand_functions(fused, visibility(fused, public))
    simplify(fused)
    ir.run_passes(fused, "canonicalize,cse")
    ir.erase_dead(ir.body(ir.main(fused)))
    ir.run_passes(fused, "symbol-dce")
    ir.verify(fused)
    return fused


def _replace_patterns(module: ir.Module, public: Sequence[bool]) -> None:
    """Visit the last operation first, so that a larger pattern is found before a smaller one in it."""
    secret = visibility(module, public)
    for op in reversed(list(ir.walk(ir.main(module)))):
        if not ir.is_effect(op) and not any(ir.users(each) for each in op.results):
            op.erase()
        elif len(op.results) == 1 and secret[op.results[0]]:
            _replace_first(module, op, secret)


def _replace_first(module: ir.Module, op: ir.Op, secret: Mapping[ir.Value, bool]) -> None:
    for record in OPS.values():
        pattern = record.pattern
        match = pattern.match(op) if pattern is not None and op.name in pattern.roots else None
        if pattern is not None and match is not None:
            if match.public is not None and not any(secret.get(each, True) for each in match.values[1:]):
                match = match.public
            operands = ir.emit(match.prepare, match.values, op, op.location)
            meaning = partial(pattern.meaning, **match.attributes)
            new = ir.composite(module, record.composite, meaning, operands, match.attributes, op, op.location)
            ir.replace_all_uses(op.results[0], new)
            op.erase()
            return
