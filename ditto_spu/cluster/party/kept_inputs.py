"""Reads which inputs and outputs of a request are in shares at this party between requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ditto_spu.cluster.party.dealt_material import Parts
from ditto_spu.cluster.party.kept_values import KeptValue, KeptValues
from ditto_spu.cluster.party.weights import Served
from ditto_spu.errors import ClusterError
from ditto_spu.plan.plan import Plan


def read_places(plan: Plan, places: Any) -> tuple[int, ...]:
    """Return the places if they are distinct inputs of the plan. Raises ClusterError otherwise."""
    if not _numbers(places):
        raise ClusterError("the places of inputs are a list of numbers")
    if len(set(places)) != len(places) or not set(places) <= set(range(len(plan.inputs))):
        raise ClusterError("the places of inputs are not distinct inputs of the plan")
    return tuple(places)


def read_outputs(plan: Plan, places: Any) -> frozenset[int]:
    """Return the places of outputs that stay in shares. None means none.

    Raises ClusterError unless they are distinct secret outputs of the function.
    """
    if places is None:
        return frozenset()
    own = plan.outputs if plan.guard is None else plan.outputs[:-1]
    secret = {place for place, var in enumerate(own) if plan.vars[var].fxp is not None}
    if not _numbers(places) or len(set(places)) != len(places) or not set(places) <= secret:
        raise ClusterError("the places of outputs to keep are not distinct secret outputs of the plan")
    if plan.masked and places:
        raise ClusterError("masked shares belong to one request and its dealer: none of them is kept")
    return frozenset(places)


def read_keep(
    places: Any, plan: Plan, weights: str | None, served: Served | None
) -> Mapping[int, str | None]:
    """Return the outputs that stay here in a request, by place, with the weights that they are bound to.

    weights, served: the token of the weights of the request, and how they serve the plan.

    Raises ClusterError as `read_outputs` does, and if the owner of the weights wants more outputs to stay.
    """
    keep, required = read_outputs(plan, places), frozenset[int]() if served is None else served.keep
    if opened := required - keep:
        raise ClusterError(
            f"output {min(opened)} of this plan has to stay in shares: the owner of the weights chose it"
        )
    return {place: weights if place in required else None for place in sorted(keep)}


def read_kept(
    named: Any,
    plan: Plan,
    count: int,
    values: KeptValues,
    weights: str | None,
    served: Served | None,
) -> tuple[Parts, ...]:
    """Return the inputs of each member that earlier requests have kept, by place.

    named: a list of places, each with the name of a value for every member. None means none.
    values: those of the session.
    weights, served: the token of the weights of the request, and how they serve the plan.

    Raises ClusterError for values that are not there, that do not fit, or that may not be read here.
    """
    entries = [] if named is None else named
    if not isinstance(entries, list) or not all(_is_named(each, count) for each in entries):
        raise ClusterError("kept inputs are a place each, and a name for each member")
    members: tuple[Parts, ...] = tuple({} for _ in range(count))
    places = read_places(plan, [place for place, _ in entries])
    if plan.masked and places:
        raise ClusterError("masked shares belong to one request and its dealer: none of them is kept")
    required = frozenset[int]() if served is None else served.kept
    if loose := required - set(places):
        raise ClusterError(
            f"input {min(loose)} of this plan has to be a kept output: the owner of the weights chose it"
        )
    for place, names in entries:
        info = plan.vars[plan.inputs[place].var]
        for member, name in zip(members, names, strict=True):
            found = values.find(name)
            if (found.part.shape, found.part.fxp) != (info.shape, info.fxp):
                raise ClusterError(
                    f"the kept output for input {place} is not as the plan declares it ({info})"
                )
            _check_bound(found, place, weights if place in required else None)
            member[place] = found.part
    return members


def _check_bound(value: KeptValue, place: int, weights: str | None) -> None:
    """Raise ClusterError unless a value is bound to the weights that serve an input, or to none."""
    if value.bound != weights:
        raise ClusterError(
            f"the kept output for input {place} belongs to other weights, or to none: where an owner wants "
            "outputs to stay in shares, only plans of the same weights read them"
        )


def _is_named(entry: Any, count: int) -> bool:
    """Tell whether an entry is the place of an input, and a kept output for each of `count` members."""
    return (
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list) and len(entry[1]) == count
    )


def _numbers(places: Any) -> bool:
    return isinstance(places, list) and all(type(each) is int for each in places)
