"""A compiled call with its arrays, for parties elsewhere, and the result of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ditto_spu.compiler import Lowered
from ditto_spu.frontend.kept_arguments import Keep, is_kept, kept_places
from ditto_spu.function.check_inputs import InputCheck
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.kept import Kept


@dataclass(frozen=True)
class Call:
    """A call in the form in which it goes to three parties.

    lowered: the compiled call.
    values: its arrays, in the order of the plan's inputs.
    held: the places of the inputs that come from arguments given to `hold`.
    check: holds each array that is about to be shared against the plan's ranges.
    arguments: the arguments given to `hold`, by name.
    """

    lowered: Lowered
    values: list[Any]
    held: tuple[int, ...]
    check: InputCheck
    arguments: Mapping[str, Any]

    @property
    def kept(self) -> tuple[int, ...]:
        """Return the places of the inputs that are handles of kept outputs."""
        return tuple(place for place, value in enumerate(self.values) if is_kept(value))

    def places(self, keep: Keep) -> frozenset[int]:
        """Return the places of the outputs that `keep` names and that are secret.

        A public output is known to everyone, so it is not kept. Raises InputError as `kept_places` does.
        """
        plan = self.lowered.plan
        named = kept_places(self.lowered.traced.out_tree, keep)
        return frozenset(each for each in named if plan.vars[plan.outputs[each]].fxp is not None)

    def described(self, keep: Keep) -> Any:
        """Return the outputs before any run: handles in place of those to keep, and shapes of the others.

        Calls that will take the handles compile with them as with those of a run.
        """
        plan, places = self.lowered.plan, self.places(keep)
        found = []
        for place, var in enumerate(plan.outputs[: self.lowered.traced.out_tree.num_leaves]):
            info = plan.vars[var]
            described = jax.ShapeDtypeStruct(info.shape, info.dtype)
            found.append(self.handle(place) if place in places else described)
        return jax.tree_util.tree_unflatten(self.lowered.traced.out_tree, found)

    def handle(self, place: int) -> Kept:
        """Return the description of a secret output that stays in shares."""
        info = self.lowered.plan.vars[self.lowered.plan.outputs[place]]
        assert info.fxp is not None
        return Kept(info.path or f"output {place}", info.dtype, info.shape, info.fxp)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    outputs: the pytree that the plain function would return, with handles in place of kept outputs.
    report: bytes, messages, rounds and seconds of every step.
    """

    outputs: Any
    report: CostReport
