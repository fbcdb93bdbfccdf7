"""A value between two bounds."""

from __future__ import annotations

import numpy as np

from ditto_kernels.bits.bit_planes import Bits
from ditto_kernels.bits.select import multiply_each
from ditto_kernels.bits.signs import signs
from ditto_kernels.maximum.maximum import cast_error
from ditto_kernels.maximum.operands import elements_of, joint_format, operand
from ditto_kernels.maximum.tournament import larger
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, Opened, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


def _minus(x: Opened, step: Array) -> Opened:
    """The opened value less a public one."""
    return Opened(x.c - step, x.mask, x.fxp, x.first)


def _between(party: Party, x: Rss, least: Array, most: Array) -> Protocol[Additive]:
    """most - [x < least] (x - least) + [x <= most] (x - most), for public bounds in order."""
    opened = yield from open_masked(party, from_rss(party, x))
    below, inside = yield from parallel(
        signs(party.at("below"), _minus(opened, least)),
        signs(party.at("inside"), _minus(opened, most + most.dtype.type(1))),
    )
    low, high = yield from multiply_each(
        party.at("chosen"),
        (Bits(below.words[0], below.word_bits), _minus(opened, least)),
        (Bits(inside.words[0], inside.word_bits), _minus(opened, most)),
    )
    share = high.share - low.share
    return Additive(share + most if party.role == "A" else share, x.fxp)


def _run(party: Party, least: Rss | Array, x: Rss | Array, most: Rss | Array, out: Fxp) -> Protocol[Rss]:
    """min(max(x, least), most), with numpy broadcasting.

    Formats: shared operands have one format, public ones are rounded to its grid; public bounds beyond half
    its range are moved there. Range: |x| <= 2^(k-2) ulp, and so are shared bounds. Error: none, but half an
    ulp of public operands and that of the cast to `out`. Rounds: with public bounds open, compare (1 up to
    ring 16, else 2), choose, reshare; else one maximum and one minimum after it. Security: x is opened under
    a full-width one-time mask; see `signs` and `multiply_bits`.
    """
    fxp, shape = joint_format(least, x, most), np.broadcast_shapes(least.shape, x.shape, most.shape)
    if isinstance(x, Rss) and not isinstance(least, Rss) and not isinstance(most, Rss):
        low, high = (
            np.broadcast_to(elements_of(each, fxp, saturated=True), shape).reshape(-1)
            for each in (least, most)
        )
        value = yield from _between(party, x.reshape((x.size,)), np.minimum(low, high), high)
    else:
        left, middle, right = (operand(party, each, fxp, shape, saturated=True) for each in (least, x, most))
        raised = yield from larger(party.at("least"), middle, left)
        larger_one = yield from larger(party.at("most"), raised, right)
        value = Additive(raised.share + right.share - larger_one.share, fxp)
    joined = yield from to_rss(party, value.reshape(shape))
    return (yield from convert(party.at("cast"), joined, out))


def _reference(least: Array, x: Array, most: Array) -> Array:
    return np.minimum(np.maximum(x, least), most)


def _error(least: Spec, x: Spec, most: Spec, out: Fxp) -> float:
    formats = [each.fxp for each in (least, x, most)]
    fxp = next(each for each in formats if each is not None)
    return cast_error(fxp, out) + (fxp.ulp / 2 if None in formats else 0.0)


CLAMP = Kernel("clamp", _run, _reference, _error, "masked comparison as in Rabbit, ePrint 2021/119")
