"""Lists the facts that participants compare before any share moves: software, formats, cluster file.

A client and a party must mean the same by messages, plans and shares. Releases that differ in the last number
alone do, so a client may be such a release behind. Two parties must also compute the same numbers.
"""

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
from ditto_spu.plan import codec

_PACKAGES = ("jax", "jaxlib", "numpy", "spu")  # they compute at the parties
_PACKAGE = Path(__file__).parents[2]
_CODE = (
    Path(ditto_kernels.__file__).parent,
    *(_PACKAGE / room for room in ("cluster/net", "cluster/party", "ir", "plan", "runtime", "spu")),
)


def facts(cluster: Cluster) -> dict[str, str]:
    """Return the facts that a client and a party compare, by name.

    The facts are the versions of messages and of plans, the package's release without its last number, the
    rings, a digest of the cluster file, the whole version, and a digest of the code that computes.
    `difference` tells how they are compared.
    """
    own = version("ditto-spu")
    return {
        "protocol": str(wire.VERSION),
        "form of plans": str(codec.VERSION),
        "release": ".".join(own.split(".")[:2]),
        "rings": ", ".join(map(str, RINGS)),
        "cluster file": cluster.hash(),
        "version": own,
        "code": _code(),
    }


def party_facts(cluster: Cluster) -> dict[str, str]:
    """Return the facts that two parties compare: `facts`, and what their arithmetic depends on.

    That is the kernels and the code around them, the versions of packages that compute, and a digest of the
    host's float64 arithmetic. Two parties compute the same public factors in float64, so their results must
    agree in every bit.
    """
    return facts(cluster) | {
        **{f"version of {name}": version(name) for name in _PACKAGES},
        "kernels": ", ".join(sorted(KERNELS)),
        "code that computes": _code(),
        "arithmetic": _arithmetic(),
    }


def difference(mine: Mapping[str, Any], theirs: Any) -> str | None:
    """Describe the first fact that differs, with its name and both values. Returns None if none does.

    Versions may differ. "code" is compared if they do not: then these are two checkouts of one version.
    """
    if not isinstance(theirs, Mapping):
        return "one of them sent no facts"
    same_version = mine.get("version") == theirs.get("version")
    for name in (*mine, *theirs):
        if name == "version" or (name == "code" and not same_version):
            continue
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
    """Return a digest of the sources that compute at the parties, or move what they compute."""
    digest = hashlib.sha256()
    for folder in _CODE:
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder.parent)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
