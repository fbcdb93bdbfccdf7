"""The record that describes one kernel: its protocol, its meaning in plaintext, its cost and its error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.party import Protocol
from ditto_kernels.values.formats import Fxp


@dataclass(frozen=True)
class Spec:
    """An operand as the compiler knows it: its shape, and its format if it is shared (None: public array)."""

    shape: tuple[int, ...]
    fxp: Fxp | None = None


@dataclass(frozen=True)
class Kernel:
    """A share-level operation.

    run(party, *operands, out, **attributes) is a protocol that returns an Rss in format `out`; shared
    operands are Rss, public ones numpy arrays. reference(*arrays, **attributes) is its plaintext meaning.
    cost(*specs, out=, **attributes) equals the counted traffic. error(*specs, out=, **attributes) bounds
    |result - reference| for inputs on the grid and within range. `elementwise`: elements do not interact.
    `along`: the attribute that names the one dimension along which they do. `all_deal`: all three parties
    take part alike, so that the result is no masked sharing before `ahead.remask`. `keeps_public`: a public
    operand may be `Known`, of which prepared forms are kept.
    """

    name: str
    run: Callable[..., Protocol[Any]]
    reference: Callable[..., Any]
    cost: Callable[..., Cost]
    error: Callable[..., float]
    paper: str
    elementwise: bool = False
    along: str | None = None
    all_deal: bool = False
    keeps_public: bool = False
