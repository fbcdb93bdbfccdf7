"""Hold the results of a simulated call against the plaintext program: lost digits are never silent.

Every value may stay in its range and yet lose its digits, where it lies near the step of its format: a square
of 0.001 has a quarter of a step at 18 fraction bits. Whether that matters shows in the results alone. Here
the caller's own results are at hand in plaintext, and so no rule has to guess.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.compiler import Lowered
from ditto_spu.errors import RangeError, RangeWarning
from ditto_spu.frontend.kept_arguments import is_kept
from ditto_spu.ops import subject
from ditto_spu.ops.cast import ENCODED, is_cast, read_cast
from ditto_spu.ops.decision import decided, read

OFF = 2.0**-6  # an output may differ from plaintext by this part of its largest value
_LOST = 2.0**-8  # a value that differs by this part of its largest element has lost digits
_PLAUSIBLE = 2.0  # by so many times the largest value, and 1, no rounding moves an output
_FEW = 2.0**7  # steps of an output's format, of which kernels lose up to two
_FLOATS = 2.0**12  # an output may differ by so many times what float32 loses itself


def _largest(value: Any) -> float:
    return float(np.max(np.abs(np.asarray(value, np.float64)), initial=0.0))


def _apart(left: Any, right: Any) -> float:
    return _largest(np.asarray(left, np.float64) - np.asarray(right, np.float64))


@dataclass(frozen=True)
class Expected:
    """What a call returns in plaintext.

    lowered: the compiled call.
    values: one array for each input of the plan.
    arrays: the arrays of the call.
    returned: outputs of the plaintext program, by place.
    """

    lowered: Lowered
    values: Sequence[Any]
    arrays: Sequence[Any]
    returned: Mapping[int, NDArray[Any]]

    def hold(self, outputs: Sequence[Any]) -> None:
        """Warn with a RangeWarning of each output that is off by more than 1/64 of its largest value.

        The warning names the place where the digits were lost, as far as the formats lose them. An output of
        which float32 itself keeps no digits, such as the difference of equal values, is left alone.

        outputs: the results of a run, of which some may be handles.
        Raises RangeError for the first output that lies far outside of everything that plaintext returns.
        """
        for place, expected in self.returned.items():
            got = outputs[place]
            if is_kept(got) or not np.issubdtype(expected.dtype, np.floating):
                continue
            worst, largest = _apart(got, expected), _largest(expected)
            if worst <= OFF * largest:
                continue
            what = (
                f"output {place} is off by {worst:.4g} from the plaintext program, whose largest value is "
                f"{largest:.4g}: {self._reason(place, largest)}"
            )
            if worst > _PLAUSIBLE * largest + 1:
                raise RangeError(what)
            if worst > _FLOATS * self._lost_by_floats(place):
                warnings.warn(what, RangeWarning, stacklevel=1)

    def _lost_by_floats(self, place: int) -> float:
        """Return how far the program in float32 is from the one in float64, or 0 where that is unknown."""
        text = self.lowered.as_text("fused")
        try:
            precise = ir.evaluate(ir.widened(text), self.arrays)[place]
        except Exception:  # XLA and MLIR have errors of their own, and there is no such program then
            return 0.0
        return _apart(ir.evaluate(text, self.arrays)[place], precise)

    def _reason(self, place: int, largest: float) -> str:
        """Say why an output lost its digits."""
        plan = self.lowered.plan
        fxp = plan.vars[plan.outputs[place]].fxp
        if fxp is not None and largest < _FEW * fxp.ulp:
            return f"the output {_steps(largest, fxp)}"
        return self._place_of_loss(place)

    def _place_of_loss(self, place: int) -> str:
        """Say where an output lost its digits: the emulation has the roundings of all formats."""
        module = ir.parse(self.lowered.as_text("formats"))
        operations = ir.ops(ir.body(ir.main(module)))
        values = [
            each
            for each in (*ir.arguments(module), *(result for op in operations[:-1] for result in op.results))
            if ir.is_float(each)
        ]
        exact = _without_casts(module, values, operations[:-1])
        rounded = ir.extract(operations[:-1], ir.arguments(module), values, "emulated")
        found = [ir.evaluate(text, self.values) for text in (rounded, exact)]
        lost = {
            value: _apart(got, right) / (_largest(right) or 1.0)
            for value, got, right in zip(values, *found, strict=True)
        }
        sizes = {value: _largest(right) for value, right in zip(values, found[1], strict=True)}
        value = operations[-1].operands[place]
        if lost.get(value, 0.0) <= _LOST:
            return "an error of a kernel grows on its way to it. Scale the values up"
        while (maker := ir.define(value)) is not None:
            read_values = [
                each for each in maker.operands if lost.get(each, 0.0) > max(_LOST, lost[value] / 8)
            ]
            if not read_values:
                break
            value = max(read_values, key=lambda each: lost[each])
        return _words(value, sizes[value], self.lowered.program.paths, ir.arguments(module))


def _without_casts(module: ir.Module, values: Sequence[ir.Value], operations: Sequence[ir.Op]) -> str:
    """Return the program without roundings, with an output for each of the values."""
    clone = ir.clone(module)
    body = ir.ops(ir.body(ir.main(clone)))[:-1]
    known = dict(zip(ir.arguments(module), ir.arguments(clone), strict=True))
    for op, copy in zip(operations, body, strict=True):
        known.update(zip(op.results, copy.results, strict=True))
    for copy in body:
        if is_cast(copy):
            ir.replace_all_uses(copy.results[0], copy.operands[0])
            for value, other in known.items():
                if other == copy.results[0]:
                    known[value] = copy.operands[0]
    return ir.extract(body, ir.arguments(clone), [known[each] for each in values], "exact")


def _words(value: ir.Value, size: float, paths: Sequence[str], arguments: Sequence[ir.Value]) -> str:
    """Say which value has too few steps, and what helps."""
    maker = ir.define(value)
    rounded = maker is not None and is_cast(maker)
    if rounded:
        assert maker is not None
        fxp, source = read_cast(maker).target, maker.operands[0]
        if read_cast(maker).source == ENCODED:
            return f"argument '{paths[arguments.index(source)]}' {_steps(size, fxp)}"
        maker = ir.define(source) or maker
    if maker is None:
        return "values on the way lie below the resolution of their formats"
    decision = read(maker)
    name = maker.name if decision is None else subject(maker, decided(maker).kind)
    where = f"{name} at '{ir.path_of(maker)}' ({ir.source_of(maker)})"
    if not rounded:
        return f"{where} leaves a small difference of rounded values, at most {size:.3g}. Scale them up"
    return f"{where} {_steps(size, fxp)}"


def _steps(size: float, fxp: Fxp) -> str:
    return (
        f"reaches {size:.3g}, which is {size / fxp.ulp:.3g} steps of {fxp}, so that rounding leaves little "
        "of it. Scale the values up, or give them more fraction bits (rule `format`)"
    )
