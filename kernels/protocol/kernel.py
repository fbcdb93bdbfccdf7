"""The record that describes one kernel: its protocol, its meaning in plaintext and its error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.protocol.party import Protocol
from ditto_kernels.values.formats import Fxp

__all__ = ["Kernel", "Spec", "listed"]


def _usual(*_: Spec, **__: Any) -> str:
    return ""


def listed(*variants: str) -> str:
    """Several choices as one variant."""
    return ", ".join(filter(None, variants))


@dataclass(frozen=True, eq=False)
class Kernel:
    """A share-level operation.

    run(party, *operands, out, **attributes) is a protocol that returns an Rss in format `out`; shared
    operands are Rss, public ones numpy arrays. reference(*arrays, **attributes) is its plaintext meaning.
    error(*specs, out=, **attributes) bounds |result - reference| for inputs on the grid and within range.
    `elementwise`: elements do not interact. `along`: the attribute that names the one dimension along which
    they do. `all_deal`: all three parties take part alike, so that the result is no masked sharing before
    `deal_ahead.remask`. `keeps_public`: a public operand may be `Known`, of which prepared forms are kept.
    variant(*specs, out=, **attributes) names what the kernel's plan chose for few elements or rows, such as
    "five rounds"; it is '' where the usual protocol serves.
    """

    name: str
    run: Callable[..., Protocol[Any]]
    reference: Callable[..., Any]
    error: Callable[..., float]
    paper: str
    elementwise: bool = False
    along: str | None = None
    all_deal: bool = False
    keeps_public: bool = False
    variant: Callable[..., str] = _usual

    def cost(self, *specs: Spec, out: Fxp, masked: bool = False, **attributes: Any) -> Cost:
        """Bytes and rounds, derived from the protocol, as links count them. ValueError as `run` raises it.

        masked: with masked shares. A kernel in which all deal takes ordinary ones there too.
        """
        return cost_of(self.run, *specs, masked=masked and not self.all_deal, out=out, **attributes)
