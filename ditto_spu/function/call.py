"""A compiled call with its arrays, for parties elsewhere, and the result of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ditto_spu.compiler import Lowered
from ditto_spu.function.check_inputs import InputCheck
from ditto_spu.plan.cost_report import CostReport


@dataclass(frozen=True)
class Call:
    """A call in the form in which it goes to three parties.

    lowered: the compiled call.
    values: its arrays, in the order of the plan's inputs.
    held: the places of the inputs that come from arguments given to `hold`.
    check: holds each array that is about to be shared against the plan's ranges.
    """

    lowered: Lowered
    values: list[Any]
    held: tuple[int, ...]
    check: InputCheck


@dataclass(frozen=True)
class Result:
    """The result of a run.

    outputs: the pytree that the plain function would return, with handles in place of kept outputs.
    report: bytes, messages, rounds and seconds of every step.
    """

    outputs: Any
    report: CostReport
