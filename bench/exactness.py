"""How far a side's outputs are from plaintext, and the versions that gave them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from ditto_spu.compare.table import accuracy
from ditto_spu.models import Program


def exactness(program: Program, outputs: Any) -> dict[str, Any]:
    """Entries of a row: errors against the program in float, and versions."""
    expected = jax.jit(program.fn)(*program.args)
    leaves = jax.tree_util.tree_leaves
    versions = {name: version(name) for name in ("jax", "jaxlib", "spu", "numpy", "ditto-spu")}
    return accuracy(leaves(outputs), [np.asarray(each) for each in leaves(expected)]) | {"versions": versions}
