"""Run the steps of a plan that are SPU's, and read their cost from SPU's own log."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu.plan.plan import Plan, SpuStep, Var
from ditto_spu.spu.compile import compile_program
from ditto_spu.spu.party import Link, SpuParty
from ditto_spu.spu.profile import log_to, read_costs
from ditto_spu.spu.values import FRACTION_BITS, KINDS, Shared

_FLOAT_KINDS = {"float32": "f32", "float64": "f64"}


def compile_steps(plan: Plan) -> dict[str, bytes]:
    """Compile all SPU steps of a plan, and return the executables by the text of the step.

    Raises UnsupportedOpError, before the run, if SPU refuses one.
    """
    return {
        step.text: compile_program(
            step.text, [plan.vars[var].fxp is None for var in step.inputs], f"step{number}"
        )
        for number, step in enumerate(plan.steps)
        if isinstance(step, SpuStep)
    }


class SpuSteps:
    """One party's SPU, which takes and returns our shares.

    meet: is called before every step. Parties of one process wait there for each other, because nothing ends
        a wait inside SPU: a party that fails before the step would leave the two others there.
    """

    def __init__(
        self,
        link: Link,
        programs: dict[str, bytes],
        profile: bool = False,
        meet: Callable[[], None] = lambda: None,
    ) -> None:
        self._party = SpuParty(link, profile)
        self._programs = programs
        self._meet = meet

    def run_step(
        self, text: str, inputs: Sequence[Rss | NDArray[Any]], kinds: Sequence[str], outputs: Sequence[Var]
    ) -> list[Rss]:
        """Run one step. `kinds` are the dtypes of the inputs in the user's program."""
        given = [
            Shared(np.asarray(each.mine, np.int64), np.asarray(each.next, np.int64), _kind(kind))
            if isinstance(each, Rss)
            else np.asarray(each)
            for each, kind in zip(inputs, kinds, strict=True)
        ]
        self._meet()
        results = self._party.run(self._programs[text], given)
        return [
            Rss(each.mine, each.next, Fxp(64, FRACTION_BITS if var.dtype in _FLOAT_KINDS else 0))
            for each, var in zip(results, outputs, strict=True)
        ]

    def close(self) -> None:
        self._party.close()


def _kind(dtype: str) -> str:
    kind = _FLOAT_KINDS.get(dtype, dtype)
    return kind if kind in KINDS else "f32"


class SpuLog:
    """The file to which this process's SPU logs its costs while it profiles."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ditto-spu-log-")
        self._path = Path(self._folder.name) / "spu.log"
        log_to(self._path)

    def costs(self) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return (bytes sent, messages) of the three parties by step.

        A conversion after a step counts as part of it.
        """
        found: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        current = -1
        for cost in read_costs(self._path) if self._path.exists() else []:
            if cost.name.startswith("step"):
                current = int(cost.name.removeprefix("step"))
            bytes_sent, messages = found.get(current, ((0, 0, 0), (0, 0, 0)))
            found[current] = (
                tuple(a + b for a, b in zip(bytes_sent, cost.bytes_sent, strict=True)),
                tuple(a + b for a, b in zip(messages, cost.messages, strict=True)),
            )
        return found

    def close(self) -> None:
        self._folder.cleanup()
