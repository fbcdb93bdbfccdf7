"""One kernel on thirds of its operands, each third with another dealer: levels what the parties send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.cost import Cost, elements
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.party import Party, Protocol, parallel
from ditto_kernels.ring import Array, Fxp
from ditto_kernels.rss import PARTIES, Rss

_BLOCK = 64  # thirds of a flat operand are whole words of bit planes
Cuts = tuple[int, ...]


def cut(
    kernel: Kernel, shapes: Sequence[tuple[int, ...]], **attributes: Any
) -> tuple[int | None, Cuts] | None:
    """(axis to cut along, where), axis None for the flat operand; None if it cannot be cut or is too small.

    A kernel along one dimension is cut along the largest other one; all operands must have one shape.
    """
    shape = shapes[0]
    if any(each != shape for each in shapes):
        return None
    if kernel.elementwise:
        size = elements(shape)
        if size < PARTIES * _BLOCK:
            return None
        part = size // (PARTIES * _BLOCK) * _BLOCK
        return None, (0, part, 2 * part, size)
    if kernel.along is None:
        return None
    along = attributes[kernel.along] % len(shape)
    others = [axis for axis in range(len(shape)) if axis != along and shape[axis] >= PARTIES]
    if not others:
        return None
    axis = max(others, key=lambda each: (shape[each] % PARTIES == 0, shape[each]))
    return axis, tuple(shape[axis] * part // PARTIES for part in range(PARTIES + 1))


def spread(
    kernel: Kernel, party: Party, operands: Sequence[Any], out: Fxp, **attributes: Any
) -> Protocol[Rss]:
    """The kernel on every third; they share rounds, and nothing but reshared results leaves a third."""
    shape = tuple(operands[0].shape)
    axis, _ = _found(kernel, operands, **attributes)
    parts = yield from parallel(*thirds(kernel, party, operands, out, **attributes))
    mine, following = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts], axis=axis or 0).reshape(shape)
        for name in ("mine", "next")
    )
    return Rss(mine, following, out)


def thirds(
    kernel: Kernel, party: Party, operands: Sequence[Any], out: Fxp, **attributes: Any
) -> list[Protocol[Rss]]:
    """The kernel's protocol on every third, by the third's dealer."""
    axis, cuts = _found(kernel, operands, **attributes)
    return [
        kernel.run(
            party.at(f"third{dealer}").with_dealer(dealer),
            *(_part(each, axis, cuts[dealer], cuts[dealer + 1]) for each in operands),
            out=out,
            **attributes,
        )
        for dealer in range(PARTIES)
    ]


def _found(kernel: Kernel, operands: Sequence[Any], **attributes: Any) -> tuple[int | None, Cuts]:
    found = cut(kernel, [tuple(each.shape) for each in operands], **attributes)
    assert found is not None
    return found


def _part(value: Any, axis: int | None, start: int, stop: int) -> Any:
    if isinstance(value, Rss):
        return Rss(_slice(value.mine, axis, start, stop), _slice(value.next, axis, start, stop), value.fxp)
    return _slice(value, axis, start, stop)


def _slice(array: Array, axis: int | None, start: int, stop: int) -> Array:
    array = np.asarray(array)
    if axis is None:
        return array.reshape(-1)[start:stop]
    return array[(slice(None),) * axis + (slice(start, stop),)]


def spread_costs(kernel: Kernel, specs: Sequence[Spec], out: Fxp, **attributes: Any) -> list[Cost]:
    """Cost of every third, by its dealer: bytes add up, rounds are shared."""
    found = cut(kernel, [each.shape for each in specs], **attributes)
    assert found is not None
    axis, cuts = found
    costs = []
    for dealer in range(PARTIES):
        size = cuts[dealer + 1] - cuts[dealer]
        thirds = [
            Spec((size,) if axis is None else (*each.shape[:axis], size, *each.shape[axis + 1 :]), each.fxp)
            for each in specs
        ]
        costs.append(kernel.cost(*thirds, out=out, **attributes))
    return costs
