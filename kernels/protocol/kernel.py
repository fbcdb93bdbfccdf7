"""A kernel is a record of a protocol, its meaning in plaintext, its error bound and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.derived_cost import Spec, cost_of, result_of
from ditto_kernels.protocol.party import Protocol
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.values.formats import Fxp

__all__ = ["Kernel", "Spec", "listed"]


def _usual(*_: Spec, **__: Any) -> str:
    return ""


def listed(*variants: str) -> str:
    """Join several choices as one variant."""
    return ", ".join(filter(None, variants))


@dataclass(frozen=True, eq=False)
class Kernel:
    """A share-level operation.

    - run(party, *operands, out, **attributes) is a protocol that returns an Rss in format `out`. Shared
      operands are Rss, and public ones are numpy arrays.
    - reference(*arrays, **attributes) is its plaintext meaning.
    - error(*specs, out=, **attributes) bounds |result - reference| for inputs on the grid and within range.
    - paper is its source.
    - elementwise says that elements do not interact.
    - along is the attribute that names the one dimension along which elements interact.
    - vectors is how many of the last operands are vectors along that dimension, as weights are.
    - all_deal says that all three parties take part alike. Its result is no masked sharing before
      `deal_ahead.remask`.
    - keeps_public says that a public operand may be `Known`, of which prepared forms are kept.
    - variant(*specs, out=, worth=, **attributes) names the choice of the kernel's plan for few elements or
      rows, such as "five rounds". It is '' where the usual protocol serves. What is few follows from what a
      saved round is worth (`Party.worth`). The error bound holds for every choice.
    """

    name: str
    run: Callable[..., Protocol[Any]]
    reference: Callable[..., Any]
    error: Callable[..., float]
    paper: str
    elementwise: bool = False
    along: str | None = None
    vectors: int = 0
    all_deal: bool = False
    keeps_public: bool = False
    variant: Callable[..., str] = _usual

    def cost(
        self, *specs: Spec, out: Fxp, masked: bool = False, worth: int = ROUND_WORTH, **attributes: Any
    ) -> Cost:
        """Return bytes and rounds, derived from the protocol, as links count them.

        `masked` asks for the cost with masked shares, and `worth` is what a saved round is worth. A kernel in
        which all parties deal takes ordinary shares there too. Raises ValueError as `run` raises it.
        """
        masked = masked and not self.all_deal
        return cost_of(self.run, *specs, masked=masked, worth=worth, out=out, **attributes)

    def result(self, *specs: Spec, out: Fxp, **attributes: Any) -> Spec:
        """Return the shape and format of the result, which is not computed. Raises ValueError as `run`."""
        return result_of(self.run, *specs, out=out, **attributes)
