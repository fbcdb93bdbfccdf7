"""Add the steps that tell the client, in one bit, whether a value of the request left its range.

Parties on hosts see no values. They count in shares what wrapped, and compare in shares (`kernels/guard/`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.guard.element_guard import counts_of
from ditto_kernels.guard.one_bit import ANSWER
from ditto_kernels.guard.product_guard import MATRICES, sums_of, watched
from ditto_kernels.guard.range_guard import Range
from ditto_kernels.guard.spread_guard import Limit, spreads_of
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.protocol.kernel import Spec
from ditto_spu import ir
from ditto_spu.passes.analysis.guarded import Guarding
from ditto_spu.plan.plan import PATIENT, Attributes, KernelStep, Step, Var

PRODUCTS, ELEMENTS, RANGES, SPREADS, BIT = PATIENT
GROUP = 8  # so many values are watched together, which takes fewer messages and keeps values longer
Item = tuple[tuple[int, ...], Attributes]  # the variables of one watched value, and how it is watched


@dataclass
class Watch:
    """The variables that a guard watches, in the order of the program.

    products: steps that multiply matrices, and the values that they compute.
    matrices, elements: operands and result of products and casts, each with its attributes.
    ranges: variables with the range in which each has to lie.
    spreads: variables with the largest variance, or mean square, of their rows.
    """

    products: list[tuple[KernelStep, ir.Value]] = field(default_factory=list)
    matrices: list[Item] = field(default_factory=list)
    elements: list[Item] = field(default_factory=list)
    ranges: list[tuple[int, Range]] = field(default_factory=list)
    spreads: list[tuple[int, Limit]] = field(default_factory=list)

    def values(self, found: Guarding, use: Callable[[ir.Value], int]) -> None:
        """Add products of matrices, and the values that have to lie in a range.

        use: returns the variable of a value.
        """
        for step, value in self.products:
            told, made = (*step.attributes, ("within", found.wraps[value])), step.outputs
            if value in found.shifted:
                told, made = (*told, ("shifted", True)), tuple(map(use, found.shifted[value]))
            self.matrices.append(((*step.inputs, *made), told))
        self.ranges = [(use(value), range) for value, range in found.tests.items()]
        self.spreads = [(use(value), limit) for value, limit in found.spreads.items()]

    def product(self, step: Step, value: ir.Value, found: Guarding) -> None:
        """Add a product. value: what it computes before any cast."""
        assert isinstance(step, KernelStep)
        if step.kernel in MATRICES:
            self.products.append((step, value))
        else:
            told = (("operands", 3), *step.attributes, ("within", found.wraps[value]))
            self.elements.append(((*step.inputs, *step.outputs), told))

    def cast(self, op: ir.Op, var: int, found: Guarding, use: Callable[[ir.Value], int]) -> None:
        """Add a cast, or the product with a public value that it belongs to, if the guard watches it.

        var: the variable of the result. use: returns the variable of a value.
        """
        result, value = op.results[0], op.operands[0]
        if result in found.wraps:
            self.elements.append(((use(value), var), (("operands", 2), ("within", found.wraps[result]))))
        elif value in found.wraps and value in found.scaled:
            told = (("operands", 3), found.scaled[value].attribute, ("within", found.wraps[value]))
            self.elements.append(((*map(use, found.scaled[value].operands), var), told))


def add_guard(steps: list[Step], variables: list[Var], watch: Watch, given: Collection[int]) -> int | None:
    """Append the steps, and return the variable of the bit: it is 0 if everything is in range.

    steps, variables: those of a plan in the making. Both grow.
    given: the inputs of the plan. Of two operands the input is summed, because weights are small numbers.

    Returns None if there is nothing to watch.
    """
    summed = [
        (used, (*told, ("summed", _side(used, told, variables, given)))) for used, told in watch.matrices
    ]
    counts = [
        *_grouped(PRODUCTS, "products", summed, variables, sums_of),
        *_grouped(ELEMENTS, "items", watch.elements, variables, counts_of),
        *_grouped(RANGES, "ranges", _alone(watch.ranges), variables, lambda *_: LIMBS),
        *_grouped(SPREADS, "limits", _alone(watch.spreads), variables, spreads_of),
    ]
    if not counts:
        return None
    variables.append(Var((1,), "int64", ANSWER, "guard"))
    every = tuple(step.outputs[0] for step in counts)
    steps += [*counts, KernelStep("guard", BIT, every, (len(variables) - 1,), (), (0,))]
    return len(variables) - 1


def _alone(found: Sequence[tuple[int, Any]]) -> list[tuple[tuple[int, ...], Any]]:
    return [((var,), told) for var, told in found]


def _side(used: Sequence[int], told: Attributes, variables: Sequence[Var], given: Collection[int]) -> str:
    """Return the operand whose free dimension is summed."""
    x, w, y = (Spec(variables[var].shape, variables[var].fxp) for var in used[:3])
    plain: dict[str, Any] = dict(told)
    if plain.pop("shifted", False):
        return "right"
    if x.fxp is None or w.fxp is None:
        return "left" if plain["public_left"] else "right"
    if (used[0] in given) != (used[1] in given):
        return "left" if used[0] in given else "right"
    sides = {side: watched(x, w, y, **plain, summed=side) for side in ("right", "left")}
    return max(sides, key=lambda side: 0 if (found := sides[side]) is None else found.summed)


def _grouped(
    kernel: str,
    name: str,
    items: Sequence[tuple[tuple[int, ...], Any]],
    variables: list[Var],
    size: Callable[[Sequence[Var], Sequence[Any]], int],
) -> Iterator[KernelStep]:
    """Yield the steps of one kernel, which tell about a group of items each."""
    for start in range(0, len(items), GROUP):
        group = items[start : start + GROUP]
        operands = tuple(var for used, _ in group for var in used)
        told = tuple(each for _, each in group)
        count = size([variables[var] for var in operands], told)
        variables.append(Var((count,), "float32", WRAPS, "guard"))
        yield KernelStep("guard", kernel, operands, (len(variables) - 1,), ((name, told),), (0,))
