"""Lists the facts that participants compare before any share moves: software, formats, cluster file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import ditto_kernels
from ditto_kernels import KERNELS
from ditto_kernels.values.formats import RINGS
from ditto_spu.cluster.net import wire
from ditto_spu.cluster.net.cluster_file import Cluster

_PACKAGES = ("ditto-spu", "jax", "jaxlib", "numpy")
_CODE = (Path(ditto_kernels.__file__).parent, Path(__file__).parents[2])


def facts(cluster: Cluster) -> dict[str, str]:
    """Return the facts that must be the same at every participant, by name.

    The facts are the wire protocol's version, package versions, a digest of the package's code, the rings,
    the kernels, and a digest of the cluster file.
    """
    return {
        "protocol": str(wire.VERSION),
        **{f"version of {name}": version(name) for name in _PACKAGES},
        "code": _code(),
        "rings": ", ".join(map(str, RINGS)),
        "kernels": ", ".join(sorted(KERNELS)),
        "cluster file": cluster.hash(),
    }


def party_facts(cluster: Cluster) -> dict[str, str]:
    """Return `facts` and a digest of the host's float64 arithmetic, which only the parties compare.

    Two parties compute the same public factors in float64, so their results must agree in every bit.
    """
    return facts(cluster) | {"arithmetic": _arithmetic()}


def difference(mine: Mapping[str, Any], theirs: Any) -> str | None:
    """Describe the first fact that differs, with its name and both values. Returns None if all are equal."""
    if not isinstance(theirs, Mapping):
        return "one of them sent no facts"
    for name in (*mine, *theirs):
        if mine.get(name) != theirs.get(name):
            return f"{name}: {mine.get(name)} here, {str(theirs.get(name))[:200]} there"
    return None


@functools.lru_cache(maxsize=1)
def _arithmetic() -> str:
    """Return a digest of float64 exponentials, cosines and sines over a fixed range.

    Two parties compute them of what they open. If their last bits differed between two processors, the shares
    would become garbage. Coefficients need no digest, because `ditto_kernels.values.portable` computes them.
    """
    points = np.linspace(-64.0, 64.0, 1 << 17)
    digest = hashlib.sha256()
    for function in (np.exp2, np.cos, np.sin):
        digest.update(function(points).tobytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _code() -> str:
    """Return a digest of the package's sources. Two checkouts can differ and have the same version number."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
