"""The client's part of a run: it splits the inputs into shares and joins the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import Known, Rss, share
from ditto_spu.errors import InputError, RangeError
from ditto_spu.plan.kept import Kept, KeptHere
from ditto_spu.plan.plan import Input, Plan, Var
from ditto_spu.runtime.precompute import (
    RandomBytes,
    client_key,
    random_bytes,
)


def hold(
    plan: Plan, values: Sequence[Any], places: Sequence[int], seed: int | None = None
) -> dict[int, Sequence[Any]]:
    """Share the inputs at `places`, so that they can serve any number of requests.

    values: one per input of the plan. Only those at `places` are read.
    seed: makes the shares reproducible and INSECURE. None draws them from the system.

    Returns the three parties' parts by place: replicated shares of a secret input, or a public array in a
    `Known`. Kernels keep prepared forms with either. Raises InputError and RangeError as `share_input` does.
    """
    source = random_bytes(client_key(None if seed is None else seed + 1))
    shared: dict[int, Sequence[Any]] = {}
    for place in places:
        entry = plan.inputs[place]
        parts = share_input(plan, entry, values[place], source)
        shared[place] = [part.kept() if isinstance(part, Rss) else Known(part) for part in parts]
    return shared


def share_input(
    plan: Plan, entry: Input, value: Any, source: RandomBytes
) -> Sequence[Rss] | Sequence[NDArray[Any]]:
    """Return the three parties' parts of one input.

    A secret input becomes replicated shares in the format of the plan. A public input is the same array for
    every party. A handle gives the shares that it stands for.

    value: an array, a number, or a handle of a kept output.
    source: the client's random bytes, of which the components are made.

    Raises InputError if the value is a mere shape, or if its shape, or the format of a handle, is not that of
    the plan. Raises RangeError if a secret value does not fit its format.
    """
    var, dealer = plan.vars[entry.var], plan.mask_dealer or 0
    if isinstance(value, Kept):
        return _kept(plan, entry, value)
    array = _shaped(plan, entry, value)
    if var.fxp is None:
        return [array] * 3
    if not _is_fixed_point(var):
        return share(array.astype(np.int64), var.fxp, source, dealer)
    return share(_encoded(entry, array, var.fxp), var.fxp, source, dealer)


def check_shape(plan: Plan, entry: Input, value: Any) -> None:
    """Raise the errors of `share_input` for an array of another shape, without sharing it."""
    _shaped(plan, entry, value)


def check_extremes(plan: Plan, entry: Input, ends: tuple[float, float]) -> None:
    """Raise the errors of `share_input` for a secret array with this least and this largest element."""
    var = plan.vars[entry.var]
    if var.fxp is not None and _is_fixed_point(var):
        _encoded(entry, np.array(ends), var.fxp)


def _shaped(plan: Plan, entry: Input, value: Any) -> NDArray[Any]:
    if isinstance(value, jax.ShapeDtypeStruct):
        raise InputError(
            f"'{entry.path}' cannot be shared: of it, or of what it is made of, only the shape is given; "
            "pass arrays, or hold the arguments that parties have already"
        )
    array, shape = np.asarray(value), plan.vars[entry.var].shape
    if tuple(array.shape) != shape:
        raise InputError(f"argument '{entry.path}' has shape {array.shape}, but was compiled for {shape}")
    return array


def _is_fixed_point(var: Var) -> bool:
    """Tell whether a shared variable holds real numbers. Integers and booleans are shared as they are."""
    assert var.fxp is not None
    return var.fxp.fraction_bits > 0 or np.issubdtype(np.dtype(var.dtype), np.floating)


def _encoded(entry: Input, array: NDArray[Any], fxp: Fxp) -> NDArray[Any]:
    try:
        return encode(array, fxp)
    except ValueError as error:
        raise RangeError(
            f"secret argument '{entry.path}': {error}; scale it, or choose a wider format by a rule for its "
            "path"
        ) from None


def check_kept(plan: Plan, entry: Input, value: Kept) -> None:
    """Raise InputError for a handle of another shape or format than the plan takes."""
    var = plan.vars[entry.var]
    if value.shape != var.shape or value.fxp != var.fxp:
        raise InputError(
            f"argument '{entry.path}' was compiled for {var}, but '{value.path}' stays in shares as "
            f"{value.fxp}[{','.join(map(str, value.shape))}]"
        )


def _kept(plan: Plan, entry: Input, value: Kept) -> Sequence[Rss]:
    """Return the shares behind a handle. Raises InputError if they are not here, or do not fit the plan."""
    if not isinstance(value, KeptHere):
        raise InputError(
            f"argument '{entry.path}': the shares of '{value.path}' are not in this process ({value.state}): "
            "a simulation takes handles of outputs that a simulation kept"
        )
    check_kept(plan, entry, value)
    return value.parts()


def without_guard(plan: Plan, outputs: list[Any]) -> list[Any]:
    """Return the outputs of the function, if the plan's guard says that everything stayed in range.

    outputs: the joined outputs of the plan.
    Raises RangeError if a value left its range. Nobody learns which one.
    """
    if plan.guard is None:
        return outputs
    if np.any(outputs[-1]):
        raise RangeError(
            f"'{plan.name}': a value of this request left the range of its format or function, so its "
            "outputs may be wrong and are withheld; parties cannot tell which one: run the function in "
            "simulation on such inputs, which names it, calibrate with them, or choose wider formats"
        )
    return outputs[:-1]


def join_output(var: Var, parts: Sequence[Any]) -> NDArray[Any]:
    """Return one output, joined from the parts of the three parties.

    parts: re-randomised 3-of-3 shares of a secret output, in `mine`. A public output is the array itself.

    A secret output comes back in the dtype of the user's program, with float32 in place of bfloat16.
    """
    if not isinstance(parts[0], Rss):
        return np.asarray(parts[0])
    # The shares are stacked first, because numpy would widen a sum of scalars instead of wrapping it.
    total = np.sum(np.stack([part.mine for part in parts]), axis=0, dtype=parts[0].fxp.dtype)
    dtype = np.dtype(var.dtype) if var.dtype != "bfloat16" else np.dtype(np.float32)
    if np.issubdtype(dtype, np.floating):
        return np.asarray(decode(total, parts[0].fxp), dtype)
    return np.asarray(total, dtype)
