"""Refuse outputs that stand for infinity, which shares cannot hold.

The pass `bound_infinite_masks` writes a large number in place of infinity, where it only leaves elements out.
That number reaches an output if nothing is left: it is then the maximum, or what is computed from it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.errors import RangeError
from ditto_spu.frontend.kept_arguments import is_kept
from ditto_spu.passes.fuse.infinite_masks import LARGEST

_LIKE_IT = LARGEST / 4  # so a sum or a difference with another number is found, and a part of it


def refuse_infinity(lowered: Lowered, outputs: Mapping[int, Any]) -> None:
    """Raise RangeError if an output is NaN or infinite, or stands for infinity.

    outputs: floats or other arrays, by place. Handles are left alone.
    """
    for place, output in outputs.items():
        if is_kept(output) or not np.issubdtype(np.asarray(output).dtype, np.floating):
            continue
        sizes = np.abs(np.asarray(output, np.float64))
        if np.isfinite(sizes).all() and not (np.any(sizes >= _LIKE_IT) and _bounds(lowered.texts["fused"])):
            continue
        raise RangeError(
            f"output {place} of the program holds NaN or infinity, which shares cannot hold, perhaps as the "
            "maximum of nothing: choose a finite number there with jnp.where"
        )


@functools.lru_cache(maxsize=64)
def _bounds(fused: str) -> bool:
    """Return whether a program has the number that stands for infinity."""
    module = ir.parse(fused)  # its operations do not outlive it
    constants = [each for each in ir.walk(module.operation) if each.name == "stablehlo.constant"]
    floats = [ir.constant_value(each) for each in constants if ir.is_float(each.results[0])]
    return any(bool(np.any(np.abs(np.asarray(each, np.float64)) == LARGEST)) for each in floats)
