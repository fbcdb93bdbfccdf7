"""Define the composite that changes a value's format. Its decomposition rounds to the target grid.

No user writes a cast: the pass `insert_casts` does. This file therefore has no `Op` record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.rounding import round_to

CAST = "ditto.cast"
ENCODED = "real"  # the source of a cast that a data owner performs when it shares an argument
LIFTED = "public"  # the source of a cast that turns a public value into a trivial sharing


@dataclass(frozen=True)
class Cast:
    """A change from a format, or from ENCODED or LIFTED, to a format."""

    source: str
    target: Fxp

    @property
    def source_format(self) -> Fxp | None:
        """The source format, or None for an encoded or lifted value."""
        return None if self.source in (ENCODED, LIFTED) else Fxp.parse(self.source)


def is_cast(op: ir.Op) -> bool:
    """Tell whether an operation is a cast."""
    return ir.composite_name(op) == CAST


def read_cast(op: ir.Op) -> Cast:
    """Return the source and the target of a cast."""
    attributes = ir.composite_attributes(op)
    return Cast(attributes["from"], Fxp.parse(attributes["to"]))


def write_cast(
    module: ir.Module,
    value: ir.Value,
    source: Fxp | str,
    target: Fxp,
    before: ir.Op,
    location: ir.Location | None = None,
) -> ir.Value:
    """Write a cast of `value` before an operation, and return its result."""
    attributes = {"from": str(source), "to": str(target)}
    meaning = _meaning(target.fraction_bits)
    return ir.composite(module, CAST, meaning, [value], attributes, before, location or before.location)


# The same rounding is always the same object, so that it is traced only once per shape.
@functools.cache
def _meaning(fraction_bits: int) -> Callable[..., jax.Array]:
    return partial(round_to, fraction_bits=fraction_bits)
