"""What participants compare before any share moves: software, formats, the cluster file."""

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
    """By name, what must be the same everywhere."""
    return {
        "protocol": str(wire.VERSION),
        **{f"version of {name}": version(name) for name in _PACKAGES},
        "code": _code(),
        "rings": ", ".join(map(str, RINGS)),
        "kernels": ", ".join(sorted(KERNELS)),
        "cluster file": cluster.hash(),
    }


def party_facts(cluster: Cluster) -> dict[str, str]:
    """What the parties compare beyond that: two of them compute the same public factors in float64."""
    return facts(cluster) | {"arithmetic": _arithmetic()}


def difference(mine: Mapping[str, Any], theirs: Any) -> str | None:
    """The first difference, named; None if there is none."""
    if not isinstance(theirs, Mapping):
        return "one of them sent no facts"
    for name in (*mine, *theirs):
        if mine.get(name) != theirs.get(name):
            return f"{name}: {mine.get(name)} here, {str(theirs.get(name))[:200]} there"
    return None


@functools.lru_cache(maxsize=1)
def _arithmetic() -> str:
    """A digest of exponentials and cosines: processors whose last bits differ would make shares garbage."""
    points = np.linspace(-24.0, 24.0, 1 << 16)
    digest = hashlib.sha256()
    for function in (np.exp2, np.cos, np.sin):
        digest.update(function(points).tobytes())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _code() -> str:
    """A digest of the package's own sources: the same version may be another checkout."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
