"""The composite that changes a value's format; its decomposition rounds to the target grid."""

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
    """From a format, or from ENCODED or LIFTED, to a format."""

    source: str
    target: Fxp

    @property
    def source_format(self) -> Fxp | None:
        """None for what is encoded or lifted."""
        return None if self.source in (ENCODED, LIFTED) else Fxp.parse(self.source)


def is_cast(op: ir.Op) -> bool:
    """Whether an operation is a cast."""
    return ir.composite_name(op) == CAST


def read_cast(op: ir.Op) -> Cast:
    """What a cast does."""
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
    """A cast of `value` before an operation; its result."""
    attributes = {"from": str(source), "to": str(target)}
    meaning = _meaning(target.fraction_bits)
    return ir.composite(module, CAST, meaning, [value], attributes, before, location or before.location)


@functools.cache  # the same object for the same rounding, which is then traced once per shape
def _meaning(fraction_bits: int) -> Callable[..., jax.Array]:
    return partial(round_to, fraction_bits=fraction_bits)
