"""Compile the calls of a request at the client, and return their outputs as the function does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ditto_spu.api import Call, SecureFunction
from ditto_spu.errors import InputError
from ditto_spu.function.check_infinity import refuse_infinity
from ditto_spu.network.model import Network
from ditto_spu.runtime.client import without_guard


def call_of(
    function: SecureFunction, args: Sequence[Any], kwargs: Mapping[str, Any], network: Network
) -> Call:
    """Compile one call.

    network: is between the parties, and counts if the function names no other one.

    Raises InputError for a function that `secure` has not made.
    """
    if not isinstance(function, SecureFunction):
        raise InputError(f"{type(function).__name__} is no secure function: give secure(fn)")
    return function.call_over(network, args, kwargs)


def calls_of(function: SecureFunction, inputs: Sequence[Any], most: int, network: Network) -> list[Call]:
    """Compile the calls of one request, at most `most`, which are alike, as `call_of` does.

    inputs: the arguments of each call, as a tuple of positional arguments or a dictionary of named ones.
    """
    if not 0 < len(inputs) <= most:
        raise InputError(f"a request takes 1 to {most} inputs (`batch` in [limits]), not {len(inputs)}")
    calls = []
    for each in inputs:
        if not isinstance(each, tuple | Mapping):
            raise InputError(f"inputs are tuples or dictionaries of arguments, not {type(each).__name__}")
        args, kwargs = ((), each) if isinstance(each, Mapping) else (each, {})
        calls.append(call_of(function, args, kwargs, network))
    if len({call.lowered.plan.hash() for call in calls}) > 1:
        raise InputError("the inputs of one request have the same shapes and static arguments")
    return calls


def returned(call: Call, values: list[Any]) -> Any:
    """Return what the function returns, from the joined outputs of its plan.

    Raises RangeError if the plan's guard says that a value left its range, or if an output stands for
    infinity. The session goes on.
    """
    outputs = without_guard(call.lowered.plan, values)
    refuse_infinity(call.lowered, dict(enumerate(outputs)))
    return jax.tree_util.tree_unflatten(call.lowered.traced.out_tree, outputs)
