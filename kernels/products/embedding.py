"""An embedding retrieves rows of a secret table at secret indices from the holders of each component.

Every component of the table is known to two parties. These two open c = id + r under a mask of the third
party, which has dealt them a point function at -r. Rotated by c, it is a sharing of the one-hot vector of id.
One product of it with the component gives additive shares of the component's row. Each party deals once, and
the sum over the components is reshared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.point_functions import LEAF_BITS, Blocks, Bytes, evaluate, generate
from ditto_kernels.products.multiply import finish
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol, Round, parallel
from ditto_kernels.sharing.additive import from_rss, open_masked
from ditto_kernels.sharing.casts import convert, downcast
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp, container_bits, encode
from ditto_kernels.values.replicated import PARTIES, Rss

TABLE_BITS = 20  # the most fraction bits of a public table


@dataclass(frozen=True)
class _Key:
    """The data that A or B needs to expand its share of n one-hot vectors."""

    c: NDArray[np.int64]
    seeds: Blocks
    corrections: Blocks
    flips: Bytes
    final: NDArray[np.int32]
    first: bool


def address_bits(rows: int) -> int:
    """Return the bits of an index. There are at least three, so that a point function has a level."""
    return max(LEAF_BITS + 1, (rows - 1).bit_length())


def _unmade(count: int, depth: int) -> tuple[Array, Array, Array]:
    """Return absent arrays in place of those that `generate` returns for so many points."""
    return (
        absent((depth, count, 2), np.dtype(np.uint64)),
        absent((depth, count), np.dtype(np.uint8)),
        absent((count, 4), np.dtype(np.int32)),
    )


_corrections = local_step(lambda points, depth, *_: _unmade(len(points), depth))(generate)


def _retrieve(party: Party, ids: Rss, bits: int) -> Protocol[_Key | None]:
    """Return keys for A and B at the id, and none at the dealer.

    It takes one round. The dealer sends keys in the offline phase.
    """
    count, depth, word = ids.size, bits - LEAF_BITS, np.dtype(np.uint64)
    opened = yield from open_masked(party.at("index"), from_rss(party, ids))
    parts = [
        (name, each.shape, each.dtype)
        for name, each in zip(("corrections", "flips", "final"), _unmade(count, depth), strict=True)
    ]
    if party.role == "D":
        first, second = party.draw_both("seeds", (count, 2), word)
        if party.phase == "online":
            yield Round()
            return None
        points = -opened.mask.reshape(-1).astype(np.int64) & ((1 << bits) - 1)
        values = _corrections(points, depth, first, second)
        sends = [
            party.send(to, name, value, offline=True)
            for to in (party.a, party.b)
            for (name, _, _), value in zip(parts, values, strict=True)
        ]
        yield Round(tuple(sends))
        return None
    received = yield Round((), tuple(party.expect(party.dealer, *part) for part in parts))
    seeds = party.draw_with_dealer("seeds", (count, 2), word)
    c = opened.c.reshape(-1).astype(np.int64) & ((1 << bits) - 1)
    return _Key(c, seeds, received[0], received[1], received[2], party.role == "A")


@jax.jit
def _dot(onehot: jax.Array, table: jax.Array) -> jax.Array:
    return jax.lax.dot(onehot, table, preferred_element_type=jnp.int32)


def _rows(key: _Key, component: Array) -> NDArray[np.int32]:
    """Return this party's share of the component's rows, computed tile by tile."""
    if is_absent(key.c) or is_absent(component):
        return absent((len(key.c), component.shape[1]), np.dtype(np.int32))
    rows = component.shape[0]
    table = jnp.asarray(np.asarray(component).astype(np.int32, copy=False))
    size = 4 << (key.corrections.shape[0])
    tile = max(1, tuning.ONE_HOT_TILE_BYTES // (4 * size))
    results = []
    for start in range(0, len(key.c), tile):
        part = slice(start, start + tile)
        points = evaluate(
            key.seeds[part], key.corrections[:, part], key.flips[:, part], key.final[part], key.first
        )
        onehot = np.empty((len(points), rows), np.int32)
        for place, shift in enumerate(key.c[part]):
            head = min(int(shift), rows)
            onehot[place, :head] = points[place, size - shift : size - shift + head]
            onehot[place, head:] = points[place, : rows - head]
        results.append(np.asarray(_dot(onehot, table)))
    return np.concatenate(results)


def _index_ring(rows: int, ids: Fxp) -> Fxp:
    if ids.fraction_bits:
        raise ValueError(f"indices in {ids}: they are integers, give them a format without fraction bits")
    bits = address_bits(rows)
    if ids.ring_bits < bits:
        needed = container_bits(bits)
        raise ValueError(f"indices in {ids} cannot address {rows} rows: use a ring of {needed} bits")
    return Fxp(min(ids.ring_bits, max(16, container_bits(bits))), 0)


def _known_table(party: Party, table: Array, out: Fxp) -> Rss:
    """A public table as shares: component 0 is the table, the others are zero."""
    fxp = out if out.ring_bits <= 32 else Fxp(32, min(out.fraction_bits, TABLE_BITS))
    if is_absent(table):
        return Rss(absent(table.shape, fxp.dtype), absent(table.shape, fxp.dtype), fxp)
    elements = encode(np.asarray(table), fxp)
    nothing = np.zeros_like(elements)
    return Rss(elements if party.rank == 0 else nothing, elements if party.rank == 2 else nothing, fxp)


def embedding(party: Party, table: Rss | Array, ids: Rss, out: Fxp) -> Protocol[Rss]:
    """Return table[ids] for a table (rows, ...) in a ring up to 32 and integer ids of any shape.

    A public table is taken in the format of the result, with 20 fraction bits at most.

    Range: 0 <= id < rows. Only id mod 2^address_bits is read. Where that number is not below `rows`, the row
    is zero. Error: none but that of a conversion to `out`. Rounds: 2, and those of the conversion. Raises
    ValueError for a table in ring 64, and for indices with fraction bits or in a ring that cannot address the
    rows.

    Security: each index is opened three times, to two parties each under a full-width mask that the third one
    knows. The keys of a point function hide the mask computationally. The sum leaves under a zero share.

    Source: Boyle, Gilboa, Ishai (CCS 2016) for private retrieval with point functions, ABY3 for the sharing.
    """
    if not isinstance(table, Rss):
        table = _known_table(party, table, out)
    if table.fxp.ring_bits > 32:
        raise ValueError(
            f"a table in {table.fxp}: products run in ring 32, give it a ring of 32 bits or less"
        )
    rows, *row = table.shape
    if len(row) != 1:
        table = table.reshape((rows, math.prod(row)))
    ring = _index_ring(rows, ids.fxp)
    index = ids if ring == ids.fxp else downcast(party, ids, ring)
    shape = (*ids.shape, *row)
    ahead = party.phase == "ahead"  # Then a party deals only its own part and looks up no row.
    keys = yield from parallel(
        *(
            _retrieve(party.at(f"dealer{dealer}").with_dealer(dealer), index, address_bits(rows))
            for dealer in ((party.rank,) if ahead else range(PARTIES))
        )
    )
    if ahead:
        share = absent(shape, table.fxp.dtype)
    else:
        # The holders of component j are j and j - 1, so that j + 1 deals for it.
        mine = _rows(keys[(party.rank + 1) % PARTIES], table.mine)
        following = _rows(keys[(party.rank + 2) % PARTIES], table.next)
        share = (mine + following).astype(table.fxp.dtype, copy=False).reshape(shape)
    result = yield from finish(party.at("sum"), share, table.fxp.fraction_bits, table.fxp)
    return (yield from convert(party.at("out"), result, out))


def embedding_error(table: Spec, ids: Spec, out: Fxp) -> float:
    """Return 0, or the error of dropping fraction bits, or that of encoding a public table."""
    if table.fxp is None:
        return 0.5 * 2.0 ** -min(out.fraction_bits, TABLE_BITS)
    return 1.5 * out.ulp if out.fraction_bits < table.fxp.fraction_bits else 0.0


def reference(table: Array, ids: Array, **attributes: Any) -> NDArray[Any]:
    """Return rows of the table, and zeros where an index is out of range."""
    rows = np.asarray(table)
    index = np.asarray(ids).astype(np.int64)
    inside = (index >= 0) & (index < len(rows))
    looked = rows[np.where(inside, index, 0)]
    return np.where(inside.reshape((*inside.shape, *(1,) * (rows.ndim - 1))), looked, 0)


EMBEDDING_KERNEL = Kernel(
    "embedding",
    embedding,
    reference,
    embedding_error,
    "private retrieval with point functions: Boyle, Gilboa, Ishai (CCS 2016); replicated sharing: ABY3",
    all_deal=True,
)
