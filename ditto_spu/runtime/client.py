"""The client's part of a run: it shares the inputs and joins the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import decode, encode
from ditto_kernels.values.replicated import Known, Rss, share
from ditto_spu.errors import InputError, RangeError
from ditto_spu.plan.kept import Kept
from ditto_spu.plan.plan import Input, Plan, Var
from ditto_spu.runtime.precompute import (
    RandomBytes,
    client_key,
    random_bytes,
)


def hold(
    plan: Plan, values: Sequence[Any], places: Sequence[int], seed: int | None = None
) -> dict[int, Sequence[Any]]:
    """Shares of the secret inputs at these places, which may serve any number of requests."""
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
    """The three parties' parts of one input: shares of a secret one, a public one as it is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        raise InputError(
            f"'{entry.path}' cannot be shared: of it, or of what it is made of, only the shape is given; "
            "pass arrays, or hold the arguments that parties have already"
        )
    var, dealer = plan.vars[entry.var], plan.mask_dealer or 0
    if isinstance(value, Kept):
        return _kept(plan, entry, value)
    array = np.asarray(value)
    if tuple(array.shape) != var.shape:
        raise InputError(f"argument '{entry.path}' has shape {array.shape}, but was compiled for {var.shape}")
    if var.fxp is None:
        return [array] * 3
    if var.fxp.fraction_bits == 0 and not np.issubdtype(np.dtype(var.dtype), np.floating):
        return share(array.astype(np.int64), var.fxp, source, dealer)
    try:
        return share(encode(array, var.fxp), var.fxp, source, dealer)
    except ValueError as error:
        raise RangeError(
            f"secret argument '{entry.path}': {error}; scale it, or choose a wider format by a rule for its "
            "path"
        ) from None


def _kept(plan: Plan, entry: Input, value: Kept) -> Sequence[Rss]:
    """The shares behind a handle, if the plan takes them as they are."""
    var = plan.vars[entry.var]
    if value.shape != var.shape or value.fxp != var.fxp:
        raise InputError(
            f"argument '{entry.path}' was compiled for {var}, but '{value.path}' stays in shares as "
            f"{value.fxp}[{','.join(map(str, value.shape))}]"
        )
    return value.parts()


def join_output(var: Var, parts: Sequence[Any]) -> NDArray[Any]:
    """An output from the parties' masked 3-of-3 parts."""
    if not isinstance(parts[0], Rss):
        return np.asarray(parts[0])
    # Stacked: numpy would widen the sum of scalars instead of wrapping it.
    total = np.sum(np.stack([part.mine for part in parts]), axis=0, dtype=parts[0].fxp.dtype)
    dtype = np.dtype(var.dtype) if var.dtype != "bfloat16" else np.dtype(np.float32)
    if np.issubdtype(dtype, np.floating):
        return np.asarray(decode(total, parts[0].fxp), dtype)
    return np.asarray(total, dtype)
