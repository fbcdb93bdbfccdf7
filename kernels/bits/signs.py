"""Find signs of masked values: A and B know c = x + r, and the dealer deals r's digits in unary.

x = c - r, so msb(x) = msb(c) ^ msb(r) ^ [c_low < r_low]. The comparison of a public c with a dealt r is
linear inside a digit of four bits. Digits combine four at a time, with one round per level (a radix-4 tree of
masked products).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditto_kernels.bits.bit_planes import (
    FAN_IN,
    Bits,
    compare_digits,
    digits_of,
    pack,
    to_planes,
    unary,
    unary_planes,
    word_count,
)
from ditto_kernels.bits.bit_products import Monomial, evaluate
from ditto_kernels.bits.one_hot_digits import dealt_sign, onehot_item, serves, sign_shares
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Opened
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Rows, container_bits, unsigned


def less_monomials(less: Sequence[int], equal: Sequence[int]) -> tuple[Monomial, ...]:
    """Return [c < r] of joined digits, least significant first: the highest digit that differs decides."""
    return tuple(tuple(sorted((*equal[place + 1 :], less[place]))) for place in range(len(less)))


def _level(count: int) -> tuple[tuple[Monomial, ...], ...]:
    """Return the outputs of one level for `count` digits, whose inputs are all less, then all equal.

    The outputs are less, then equal, of groups.
    """
    groups = [range(start, min(start + FAN_IN, count)) for start in range(0, count, FAN_IN)]
    less = [less_monomials(group, [count + place for place in group]) for group in groups]
    equal = [
        (tuple(count + place for place in group),) for group in groups[1:]
    ]  # The "equal" of the lowest group decides nothing.
    return (*less, *equal)


def combine(party: Party, less: Rows, equal: Rows) -> Protocol[Array]:
    """Return [c < r] from the digits' shared comparisons, least significant first.

    It takes ceil(log4 of digits) rounds.
    """
    level = 0
    while (count := len(less)) > 1:
        result = yield from evaluate(party.at(f"level{level}"), [*less, *equal], _level(count))
        groups, level = -(-count // FAN_IN), level + 1
        less, equal = result[:groups], [np.zeros_like(result[0]), *result[groups:]]
    return less[0]


def complement(party: Party, bits: Bits) -> Bits:
    """The negated bits: local."""
    return Bits(~bits.words, bits.word_bits) if party.role == "A" else bits


def _slice_planes(values: Array, low: int, width: int) -> Array:
    """Return the planes of bits low .. low + width - 1."""
    word = values.view(unsigned(8 * values.dtype.itemsize))
    return to_planes(word >> word.dtype.type(low) if low else word, container_bits(width))[:width]


def _dealt_planes(mask: Array, low: int, width: int, digits: tuple[tuple[int, int], ...]) -> Array:
    planes = _slice_planes(mask, low, width)
    return np.concatenate([unary(planes, digits), planes[width - 1 :]])


def _unmade_leaves(
    c: Array,
    offsets: Array,
    dealt: Array,
    low: int,
    width: int,
    digits: tuple[tuple[int, int], ...],
    leader: bool,
) -> tuple[Array, Array, Array]:
    top = absent((len(offsets), dealt.shape[-1]), dealt.dtype)
    less = absent((len(digits), *top.shape), dealt.dtype)
    return less, less, top


@local_step(_unmade_leaves)
def _leaves(
    c: Array,
    offsets: Array,
    dealt: Array,
    low: int,
    width: int,
    digits: tuple[tuple[int, int], ...],
    leader: bool,
) -> tuple[Array, Array, Array]:
    """Return shares of ([c < r] and [c == r] of every digit, msb(c) ^ msb(r)) for every offset."""
    planes = _slice_planes(c[None, :] + offsets[:, None], low, width)
    less, equal = compare_digits(planes, dealt[:-1], digits, leader)
    top = np.broadcast_to(dealt[-1], less.shape[1:])
    return less, equal, top ^ planes[width - 1] if leader else top


def signs(
    party: Party, x: Opened, offsets: Sequence[int] = (0,), low: int = 0, width: int | None = None
) -> Protocol[Bits]:
    """Return shared bits [x + offset < 0] for several public offsets.

    They are XOR shares at A and B, in words (offsets, w). x is in any ring. The comparison reads bits low ..
    low + width - 1 of it (by default all from `low`). With low > 0 it leaves out the lower bits and their
    carry. Then -2^low < x + offset < 0 may read as not negative, by chance of the mask, and no other value is
    wrong. Range: -2^(low + width - 1) <= x + offset <= 2^(low + width - 1) - 2^low. Error: none but that of
    `low`.

    Cost at width 16: 12 bits per offset online and 53 + 15 per offset offline, in ceil(log4 of digits)
    rounds. Few elements with up to 12 bits (`one_hot_digits.serves`) take no round and nothing online, and
    2^(width - 1) bits offline.

    Security: digits of r are dealt as XOR shares, and opened bits carry one-time masks. The dealer sees
    nothing. Source: masked comparison as in Rabbit (ePrint 2021/119). The unary digits are our own.
    """
    width = x.fxp.ring_bits - low if width is None else width
    if serves(x.size, width - 1, party.worth):
        return (yield from _few_signs(party, x, offsets, low, width))
    digits, word_bits = digits_of(0, width - 1), container_bits(width)
    dtype = unsigned(word_bits)
    items = [Deal("digits", (unary_planes(digits) + 1, word_count(x.size, word_bits)), dtype, xor=True)]
    dealt = yield from deal(party, items, lambda: [_dealt_planes(x.mask.reshape(-1), low, width, digits)])
    less, equal, top = _leaves(
        x.c.reshape(-1),
        np.asarray(offsets, dtype=np.int64).astype(x.fxp.dtype),
        dealt[0],
        low,
        width,
        digits,
        party.role == "A",
    )
    borrow = yield from combine(party, less, equal)
    return Bits(borrow ^ top, word_bits)


def _few_signs(party: Party, x: Opened, offsets: Sequence[int], low: int, width: int) -> Protocol[Bits]:
    """Do `signs` without a round, by one digit of all bits but the highest."""
    item, word_bits = onehot_item(x.size, width - 1), container_bits(width)
    (shares,) = yield from deal(party, [item], lambda: [dealt_sign(x.mask.reshape(-1), low, width)])
    steps = np.asarray(offsets, dtype=np.int64).astype(x.fxp.dtype)
    c = x.c.reshape(-1) + steps[:, None]
    return Bits(pack(sign_shares(c, shares, low, width, party.role == "A"), word_bits), word_bits)


def zeros(party: Party, x: Opened) -> Protocol[Bits]:
    """Shared bits [x = 0]: XOR shares at A and B, words (1, w).

    x = c - r is zero where every digit of c equals that of r. Formats: x in any ring. Range: any x. Error:
    none. Cost at ring 32: 20 bits online, 142 offline; ceil(log4 of digits) rounds.
    Security: digits of r are dealt as XOR shares, opened bits carry one-time masks; the dealer sees nothing.
    """
    ring = x.fxp.ring_bits
    digits = digits_of(0, ring)
    items = [Deal("digits", (unary_planes(digits), word_count(x.size, ring)), unsigned(ring), xor=True)]
    dealt = yield from deal(party, items, lambda: [unary(_slice_planes(x.mask.reshape(-1), 0, ring), digits)])
    planes = _slice_planes(x.c.reshape(1, -1), 0, ring)
    _, equal = compare_digits(planes, dealt[0], digits, party.role == "A")
    level = 0
    while (count := len(equal)) > 1:
        groups = [tuple(range(start, min(start + FAN_IN, count))) for start in range(0, count, FAN_IN)]
        outputs = tuple((group,) for group in groups)
        equal = yield from evaluate(party.at(f"level{level}"), [*equal], outputs)
        level += 1
    return Bits(equal[0], ring)


def borrows(party: Party, x: Opened, offsets: Sequence[int], width: int) -> Protocol[Bits]:
    """Shared bits [the low bits of c + offset < those of r]: XOR shares at A and B, words (offsets, w).

    They tell whether subtracting r borrows from the bits above the lowest `width` ones. Formats: x in any
    ring; words have as many bits as the ring. Range: any x. Error: none. Rounds and security: as of `signs`.
    """
    ring, digits = x.fxp.ring_bits, digits_of(0, width)

    def planes(values: Array) -> Array:
        return to_planes(values.view(unsigned(ring)), ring)[:width]

    items = [Deal("digits", (unary_planes(digits), word_count(x.size, ring)), unsigned(ring), xor=True)]
    dealt = yield from deal(party, items, lambda: [unary(planes(x.mask.reshape(-1)), digits)])
    steps = np.asarray(offsets, dtype=np.int64).astype(x.fxp.dtype)[:, None]
    less, equal = compare_digits(planes(x.c.reshape(1, -1) + steps), dealt[0], digits, party.role == "A")
    return Bits((yield from combine(party, less, equal)), ring)
