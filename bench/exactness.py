"""Compare a side's outputs with plaintext, and list the versions that gave them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from ditto_spu.compare.table import accuracy
from ditto_spu.models import Program


def exactness(program: Program, outputs: Any) -> dict[str, Any]:
    """Return entries of a row: the errors against the program in float, and versions."""
    expected = jax.jit(program.fn)(*program.args)
    leaves = jax.tree_util.tree_leaves
    versions = {name: version(name) for name in ("jax", "jaxlib", "spu", "numpy", "ditto-spu")}
    return accuracy(leaves(outputs), [np.asarray(each) for each in leaves(expected)]) | {"versions": versions}
