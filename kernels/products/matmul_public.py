"""Multiply a shared and a public matrix, alone or together with a product of two shared ones."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ditto_kernels.products.exact_float_matmul import Factor, factor, times
from ditto_kernels.products.matmul import (
    Dimensions,
    contraction,
    local_products,
    matmul_reference,
    result_shape,
)
from ditto_kernels.products.multiply import (
    finish,
    finish_additive,
    symmetric,
)
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Known, Rss


def matmul_public(
    party: Party,
    x: Rss,
    w: Array | Known,
    out: Fxp,
    dims: Dimensions,
    weight_fraction_bits: int,
    public_left: bool = False,
    range: float | None = None,
) -> Protocol[Rss]:
    """Compute a dot_general of a shared and a public real tensor, truncated to `out`.

    A and B multiply their 2-of-2 sharing of x, with one matrix product each. The dealer multiplies nothing.
    `w` is rounded to `weight_fraction_bits`, and `public_left` says that it is the left operand. `range` is a
    declared bound of |result|, which may make the product cheaper. Range, error and cost: those of
    `multiply.finish_additive`, and the rounding of the public tensor.

    Security: nothing is sent before the product is masked. Source: ABY3 section 5.1.
    """
    fxp = _product(x, weight_fraction_bits)
    share = _local(from_rss(party, x), w, dims, weight_fraction_bits, public_left)
    landing = _landing(fxp, out)
    result = yield from finish_additive(party, Additive(share, fxp), landing, symmetric(range))
    return (yield from convert(party.at("out"), result, out))


def matmul_adapted(
    party: Party,
    x: Rss,
    w: Array | Known,
    t: Rss,
    b: Rss,
    out: Fxp,
    dims: Dimensions,
    adapter_dims: Dimensions,
    weight_fraction_bits: int,
    public_left: bool = False,
    range: float | None = None,
) -> Protocol[Rss]:
    """Compute x w + t b, of which w alone is public, and truncate it to `out` once.

    This is a public layer with a secret adapter. The 2-of-2 sharing of x w is added to the 3-of-3 sharing of
    t b. It therefore takes the messages and the rounding of one product. x, t and b are in one ring.
    `public_left` says that w and b are left operands. Products of different precision meet in the finer one.
    Range, error, cost and security: those of `multiply.finish`, and the rounding of w.
    """
    bits, adapter_bits = x.fxp.fraction_bits + weight_fraction_bits, t.fxp.fraction_bits + b.fxp.fraction_bits
    pair = (b, t) if public_left else (t, b)
    z = _raised(local_products(party.rank, *pair, adapter_dims), bits - adapter_bits)
    if party.role != "D":  # A and B have the 2-of-2 sharing.
        share = _local(from_rss(party, x), w, dims, weight_fraction_bits, public_left)
        z = z + _raised(share, adapter_bits - bits)
    return (yield from finish(party, z, max(bits, adapter_bits), out, symmetric(range)))


def _raised(share: Array, bits: int) -> Array:
    return share << share.dtype.type(bits) if bits > 0 else share


def _local(
    x: Additive, w: Array | Known, dims: Dimensions, weight_fraction_bits: int, public_left: bool
) -> Array:
    """Return A's or B's share of the product. It is absent at the dealer."""
    if is_absent(x.share):
        return absent(_shape(x, w, dims, public_left), x.fxp.dtype)
    return times(x.share, _factor(w, Fxp(x.fxp.ring_bits, weight_fraction_bits), dims, public_left))


def _factor(w: Array | Known, fxp: Fxp, dims: Dimensions, public_left: bool) -> Factor:
    """Return a public operand ready for products. It is kept if it serves many calls."""
    if not isinstance(w, Known):
        return factor(encode(w, fxp), fxp.ring_bits, dims, public_left)
    form = (fxp, dims, public_left)
    if form not in w.prepared:
        w.prepared[form] = factor(encode(w.value, fxp), fxp.ring_bits, dims, public_left)
    kept: Factor = w.prepared[form]
    return kept


def _shape(x: Any, w: Any, dims: Dimensions, public_left: bool) -> tuple[int, ...]:
    return result_shape(w.shape, x.shape, dims) if public_left else result_shape(x.shape, w.shape, dims)


def _product(x: Any, weight_fraction_bits: int) -> Fxp:
    """Return the format of the product before it is finished."""
    return Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + weight_fraction_bits)


def _landing(product: Fxp, out: Fxp) -> Fxp:
    """Return the format in which the product is finished.

    It is `out`, or the nearest format in the ring of the product.
    """
    if out.ring_bits <= product.ring_bits and out.fraction_bits <= product.fraction_bits:
        dropped = product.fraction_bits - out.fraction_bits
        if out.ring_bits == product.ring_bits or out.ring_bits <= product.ring_bits - dropped:
            return out
    return Fxp(product.ring_bits, min(out.fraction_bits, product.fraction_bits))


def _adapted_reference(
    x: Array, w: Array, t: Array, b: Array, dims: Dimensions, adapter_dims: Dimensions, **attributes: Any
) -> NDArray[Any]:
    pairs = ((w, x), (b, t)) if attributes.get("public_left") else ((x, w), (t, b))
    return matmul_reference(*pairs[0], dims) + matmul_reference(*pairs[1], adapter_dims)


def _public_reference(x: Array, w: Array, dims: Dimensions, **attributes: Any) -> NDArray[Any]:
    return matmul_reference(*((w, x) if attributes.get("public_left") else (x, w)), dims)


def _public_error(x: Spec, w: Spec, *_: Spec, out: Fxp, **attributes: Any) -> float:
    """Bound the error, including the rounding of the public operand.

    That rounding adds half an ulp of the operand per term, for |x| <= 1.
    """
    dims = attributes["dims"]
    terms = contraction(w.shape if attributes.get("public_left") else x.shape, dims)
    return 1.5 * out.ulp + terms * 2.0 ** -(attributes["weight_fraction_bits"] + 1)


MATMUL_PUBLIC = Kernel(
    "matmul_public",
    matmul_public,
    _public_reference,
    _public_error,
    "ABY3 (Mohassel, Rindal 2018), 5.1",
    keeps_public=True,
)
MATMUL_ADAPTED = Kernel(
    "matmul_adapted",
    matmul_adapted,
    _adapted_reference,
    _public_error,
    "ABY3 (Mohassel, Rindal 2018), 5.1",
    keeps_public=True,
)
