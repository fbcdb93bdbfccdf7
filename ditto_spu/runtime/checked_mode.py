"""The simulator's checked mode joins the shares of every value and compares it with plaintext."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import decode
from ditto_kernels.values.replicated import Rss, reconstruct
from ditto_spu.errors import RangeError
from ditto_spu.plan.plan import KernelStep, Plan, Step

SLACK = 4.0  # a result counts as wrong if it errs by more than this many times the kernel's own bound


class Checker:
    """Collects the results of the three parties at every step. The last party to arrive checks them.

    plan: the plan that runs.
    inputs: the plaintext inputs by variable, rounded to their formats.
    """

    def __init__(self, plan: Plan, inputs: dict[int, NDArray[Any]]) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._reports: dict[int, tuple[Step, dict[int, Sequence[Any]]]] = {}  # by step, then by party
        self._values = dict(inputs)

    def observe(self, rank: int, number: int, step: Step, results: Sequence[Any]) -> None:
        """Record one party's results of a step. Check each step that all three have reported.

        Raises RangeError at the party that completes a step. The reason is a value beyond its declared
        range, a result that does not fit its format, or a result that differs from the kernel's plaintext
        meaning by more than the kernel's error bound explains.
        """
        with self._lock:
            self._reports.setdefault(number, (step, {}))[1][rank] = results
            while (complete := self._complete()) is not None:
                self._check(complete)

    def _complete(self) -> int | None:
        """Return a step that all three have reported and whose operands are known, or None.

        The dealer of masked shares reports its kernels ahead. So a kernel may have all three reports while
        one of a step that it reads is still missing.
        """
        for number, (step, parts) in self._reports.items():
            reads = step.inputs if isinstance(step, KernelStep) else ()
            if len(parts) == 3 and all(var in self._values for var in reads):
                return number
        return None

    def _check(self, number: int) -> None:
        step, parts = self._reports.pop(number)
        for place, var in enumerate(step.outputs):
            self._values[var] = self._joined([parts[rank][place] for rank in range(3)])
            self._check_range(var)
        if isinstance(step, KernelStep):
            self._check_kernel(number, step)

    def _joined(self, parts: Sequence[Any]) -> NDArray[Any]:
        if isinstance(parts[0], Rss):
            return decode(reconstruct(parts), parts[0].fxp)
        return np.asarray(parts[0])

    def _check_range(self, var: int) -> None:
        info = self._plan.vars[var]
        if info.fxp is None:
            return
        worst = float(np.max(np.abs(self._values[var]), initial=0.0))
        if info.range is not None and worst > info.range:
            raise RangeError(
                f"'{info.path}': |value| reached {worst:g}, more than the range {info.range:g} on "
                "which the plan relies: declare a larger range, and give the formats room for it"
            )

    def _check_kernel(self, number: int, step: KernelStep) -> None:
        """Compare the result of a kernel with its plaintext meaning.

        A value that wrapped, or that left a range on which the kernel relies, shows as a difference.
        """
        kernel = KERNELS[step.kernel]
        output = step.outputs[0]
        info = self._plan.vars[output]
        assert info.fxp is not None
        attributes = dict(step.attributes)
        expected = np.asarray(kernel.reference(*(self._values[var] for var in step.inputs), **attributes))
        worst = float(np.max(np.abs(expected), initial=0.0))
        if worst >= info.fxp.limit:
            raise RangeError(
                f"step {number} ({step.kernel}) at '{step.path}': the result {worst:g} does not fit "
                f"{info.fxp}, which holds |x| < {info.fxp.limit:g}: choose fewer fraction bits or a wider "
                "ring for this path"
            )
        specs = [Spec(self._plan.vars[var].shape, self._plan.vars[var].fxp) for var in step.inputs]
        bound = SLACK * kernel.error(*specs, out=info.fxp, **attributes) + 1e-3 * worst
        error = float(np.max(np.abs(expected - self._values[output]), initial=0.0))
        if error > bound:
            raise RangeError(
                f"step {number} ({step.kernel}) at '{step.path}': the result is off by {error:g} (bound "
                f"{bound:g}): an operand or product left its range; operands reach "
                + ", ".join(f"{np.max(np.abs(self._values[var]), initial=0.0):g}" for var in step.inputs)
            )
