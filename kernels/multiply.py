"""Products of shared values: local 3-of-3 products, then the cheapest way back to replicated shares."""

from __future__ import annotations

import numpy as np

from ditto_kernels.cost import Cost, elements, everyone
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.party import Party, Protocol, Round
from ditto_kernels.ring import Array, Fxp, container_bits, signed
from ditto_kernels.rss import Rss
from ditto_kernels.truncate import narrow, narrowing_bias, truncate_opened, truncation_bias, wrap_cost


def zero_share(party: Party, name: str, shape: tuple[int, ...], ring: int) -> Array:
    """A fresh 3-of-3 share of zero: F_i - F_{i+1}."""
    dtype = signed(ring)
    share = party.draw(party.rank, name, shape, dtype)
    share -= party.draw(party.rank + 1, name, shape, dtype)
    return share


def finish_kind(ring: int, dropped: int, out: Fxp) -> str:
    """How a product share becomes replicated: 'plain', 'narrow' (free truncation) or 'truncate'."""
    if out.ring_bits > ring:
        raise ValueError(f"a product in ring {ring} cannot be widened to {out} in one step")
    if dropped < 0:
        raise ValueError(f"{out} has {-dropped} fraction bits more than the product")
    if out.ring_bits <= ring - dropped:
        return "narrow" if dropped or out.ring_bits < ring else "plain"
    return "truncate"


def finish(party: Party, z: Array, fraction_bits: int, out: Fxp) -> Protocol[Rss]:
    """From one's own 3-of-3 product share with `fraction_bits` to replicated shares in `out`.

    plain:    same ring, nothing dropped: 3k bits, 1 round, exact.
    narrow:   into a ring of l <= k - dropped bits: 3l bits, 1 round, |e| <= 1.5 ulp, mean 0. Range |x| <
              2^(l-1) in `out`.
    truncate: in the same ring: 4k + 4w bits, 2 rounds, |e| < 1.5 ulp, mean 0. Range |z| < 2^(k-2).
    Every share leaves under a fresh zero share; truncation opens to A and B under full-width masks.
    """
    z = np.asarray(z)
    ring, shape = 8 * z.dtype.itemsize, z.shape
    dropped = fraction_bits - out.fraction_bits
    kind = finish_kind(ring, dropped, out)
    zero = zero_share(party, "zero", shape, ring)
    if kind != "truncate":
        bias = narrowing_bias(dropped) if party.rank == 0 else 0
        mine = narrow(z + zero, dropped, out.ring_bits, bias)
        (following,) = yield Round(
            (party.send((party.rank - 1) % 3, "reshare", mine),),
            (party.expect((party.rank + 1) % 3, "reshare", shape, out.dtype),),
        )
        return Rss(mine, following, out)
    if out.ring_bits != ring:
        raise ValueError(
            f"product in ring {ring} with {fraction_bits} fraction bits cannot be truncated to {out}"
        )
    c, masks = yield from _open_product(party, z, zero, truncation_bias(ring, dropped))
    return (yield from truncate_opened(party, c, masks, out, dropped, shape))


def _open_product(
    party: Party, z: Array, zero: Array, bias: int
) -> Protocol[tuple[Array | None, tuple[Array, Array] | Array]]:
    """c = z + bias + r at A and B in one round: the dealer adds r to its own share and sends it to both."""
    shape, dtype = tuple(z.shape), z.dtype
    if party.role == "D":
        masks = party.draw_both("mask", shape, dtype)
        share = z + zero + masks[0] + masks[1]
        yield Round((party.send(party.a, "product", share), party.send(party.b, "product", share)))
        return None, masks
    mask = party.draw_with_dealer("mask", shape, dtype)
    share = z + zero + dtype.type(bias if party.role == "A" else 0)
    other = party.b if party.role == "A" else party.a
    received = yield Round(
        (party.send(other, "product", share),),
        (party.expect(other, "product", shape, dtype), party.expect(party.dealer, "product", shape, dtype)),
    )
    return share + received[0] + received[1], mask


def finish_cost(count: int, ring: int, dropped: int, out: Fxp) -> Cost:
    """Cost of `finish`."""
    if finish_kind(ring, dropped, out) != "truncate":
        return everyone(count, out.ring_bits)
    size = count * ring // 8
    return Cost(online=(size, size, 2 * size), rounds=1) + wrap_cost(count, container_bits(dropped))


def local_product(x: Rss, y: Rss) -> Array:
    """One's own 3-of-3 share of the elementwise product, without its zero share."""
    x_mine, x_next, y_mine, y_next = (np.asarray(part) for part in (x.mine, x.next, y.mine, y.next))
    product = (x_mine + x_next) * y_mine
    product += x_mine * y_next
    return product


def multiply(party: Party, x: Rss, y: Rss, out: Fxp) -> Protocol[Rss]:
    """Elementwise x * y with numpy broadcasting, truncated to `out`.

    Formats: x and y in one ring k; out in ring k or smaller (`finish` chooses). Source: ABY3 section 5.1 for
    the local product; truncation as in `truncate`.
    """
    if x.fxp.ring_bits != y.fxp.ring_bits:
        raise ValueError(f"operands in different rings: {x.fxp} and {y.fxp}")
    z = local_product(x, y)
    return (yield from finish(party, z, x.fxp.fraction_bits + y.fxp.fraction_bits, out))


def multiply_cost(shape: tuple[int, ...], x: Fxp, y: Fxp, out: Fxp) -> Cost:
    """Cost of `multiply` with a result of that shape."""
    dropped = x.fraction_bits + y.fraction_bits - out.fraction_bits
    return finish_cost(elements(shape), x.ring_bits, dropped, out)


def _multiply_reference(x: Array, y: Array) -> Array:
    return np.asarray(x) * np.asarray(y)


def _multiply_kernel_cost(x: Spec, y: Spec, out: Fxp) -> Cost:
    assert x.fxp is not None and y.fxp is not None
    return multiply_cost(np.broadcast_shapes(x.shape, y.shape), x.fxp, y.fxp, out)


def _multiply_error(x: Spec, y: Spec, out: Fxp) -> float:
    return 1.5 * out.ulp


MULTIPLY = Kernel(
    "multiply", multiply, _multiply_reference, _multiply_kernel_cost, _multiply_error, "ABY3 (2018), 5.1"
)
