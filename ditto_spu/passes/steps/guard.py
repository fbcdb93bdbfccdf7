"""Add the steps that tell the client, in one bit, whether a value of the request left its range.

Parties on hosts see no values. They count in shares what wrapped, and compare in shares (`kernels/guard/`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.guard.element_guard import counts_of
from ditto_kernels.guard.one_bit import ANSWER
from ditto_kernels.guard.product_guard import sums_of
from ditto_kernels.guard.range_guard import Range
from ditto_kernels.guard.spread_guard import Limit, spreads_of
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.watched_product import MATRICES, watched
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

    The last values of each kind are watched by the step that makes the bit, in fewer rounds.

    steps, variables: those of a plan in the making. Both grow.
    given: the inputs of the plan. Of two operands the input is summed, because weights are small numbers.

    Returns None if there is nothing to watch.
    """
    summed = [
        (used, (*told, ("summed", _side(used, told, variables, given)))) for used, told in watch.matrices
    ]
    groups = [
        *_grouped(PRODUCTS, "products", summed, sums_of),
        *_grouped(ELEMENTS, "items", watch.elements, counts_of),
        *_grouped(RANGES, "ranges", _alone(watch.ranges), lambda *_: LIMBS),
        *_grouped(SPREADS, "limits", _alone(watch.spreads), spreads_of),
    ]
    if not groups:
        return None
    last = [group for group, after in zip(groups, [*groups[1:], None], strict=True) if group.ends(after)]
    counts: list[int] = []
    for group in groups:
        if group not in last:
            variables.append(Var((group.size(variables),), "float32", WRAPS, "guard"))
            result, told = (len(variables) - 1,), (group.told,)
            steps.append(KernelStep("guard", group.kernel, group.operands, result, told, (0,)))
            counts.append(*result)
    variables.append(Var((1,), "int64", ANSWER, "guard"))
    operands = (*(var for group in last for var in group.operands), *counts)
    every = tuple(group.told for group in last)
    steps.append(KernelStep("guard", BIT, operands, (len(variables) - 1,), every, (0,)))
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


@dataclass(frozen=True)
class _Group:
    """Values that one kernel watches together.

    name: the attribute that has the attributes of each value. counted: returns the size of the result.
    """

    kernel: str
    name: str
    items: Sequence[tuple[tuple[int, ...], Any]]
    counted: Callable[[Sequence[Var], Sequence[Any]], int]

    @property
    def operands(self) -> tuple[int, ...]:
        return tuple(var for used, _ in self.items for var in used)

    @property
    def told(self) -> tuple[str, tuple[Any, ...]]:
        return self.name, tuple(each for _, each in self.items)

    def size(self, variables: Sequence[Var]) -> int:
        return self.counted([variables[var] for var in self.operands], self.told[1])

    def ends(self, after: _Group | None) -> bool:
        """Tell whether this is the last group of its kernel."""
        return after is None or after.kernel != self.kernel


def _grouped(
    kernel: str,
    name: str,
    items: Sequence[tuple[tuple[int, ...], Any]],
    counted: Callable[[Sequence[Var], Sequence[Any]], int],
) -> Iterator[_Group]:
    for start in range(0, len(items), GROUP):
        yield _Group(kernel, name, items[start : start + GROUP], counted)
