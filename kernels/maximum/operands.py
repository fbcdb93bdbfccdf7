"""Operands of comparisons: shared or public, as 2-of-2 sharings of one format."""

from __future__ import annotations

import numpy as np

from ditto_kernels.protocol.party import Party
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss


def constant(party: Party, ring_elements: Array, fxp: Fxp) -> Additive:
    """A public value as a sharing: A holds it, B holds zero."""
    value = ring_elements.astype(fxp.dtype)
    if party.role == "D":
        return Additive(absent(value.shape, value.dtype), fxp)
    return Additive(value if party.role == "A" else np.zeros_like(value), fxp)


def joint_format(*values: Rss | Array) -> Fxp:
    """The one format of all shared operands. ValueError if there is none."""
    formats = {value.fxp for value in values if isinstance(value, Rss)}
    if len(formats) != 1:
        raise ValueError("at least one shared operand is needed, and shared operands must have one format")
    return formats.pop()


def elements_of(value: Array, fxp: Fxp, saturated: bool = False) -> Array:
    """A public value as ring elements. ValueError for a value beyond the range of `fxp`.

    saturated: move values beyond half the range to the end of the half instead.
    """
    if is_absent(value):
        return absent(np.shape(value), fxp.dtype)
    array = np.asarray(value)
    if array.dtype.kind != "f" and not fxp.fraction_bits:  # integers, exactly
        bound = 1 << (fxp.ring_bits - 2)
        array = array.astype(np.int64)
        return (np.clip(array, -bound, bound) if saturated else array).astype(fxp.dtype)
    return encode(np.clip(array, -fxp.limit / 2, fxp.limit / 2) if saturated else array, fxp)


def operand(
    party: Party, value: Rss | Array, fxp: Fxp, shape: tuple[int, ...], saturated: bool = False
) -> Additive:
    """An operand as a 2-of-2 sharing of that shape. `saturated`: see `elements_of`."""
    if isinstance(value, Rss):
        own = from_rss(party, value)
    else:
        own = constant(party, elements_of(value, fxp, saturated), fxp)
    return Additive(np.broadcast_to(own.share, shape), fxp)
