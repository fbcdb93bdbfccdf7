"""A kernel runs on parts of its operands, each with another dealer, which levels the parties' traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.protocol.cost import Cost, elements
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_BLOCK = 64  # Parts of a flat operand are whole words of bit planes.
Cuts = tuple[int, ...]


def cut(
    kernel: Kernel, shapes: Sequence[tuple[int, ...]], parts: int, **attributes: Any
) -> tuple[int | None, Cuts] | None:
    """Return (the axis to cut along, the places of the cuts), with axis None for the flat operand.

    Returns None if the kernel cannot be cut or the operand is too small. A kernel along one dimension is cut
    along the largest other one. All operands must have one shape, but for the vectors of `Kernel.vectors`,
    which every part takes whole.
    """
    shape = shapes[0]
    if any(each != shape for each in shapes[: None if kernel.vectors == 0 else -kernel.vectors]):
        return None
    if kernel.elementwise:
        size = elements(shape)
        if size < parts * _BLOCK:
            return None
        part = size // (parts * _BLOCK) * _BLOCK
        return None, (*(place * part for place in range(parts)), size)
    if kernel.along is None:
        return None
    along = attributes.get(kernel.along, -1) % len(shape)
    others = [axis for axis in range(len(shape)) if axis != along and shape[axis] >= parts]
    if not others:
        return None
    axis = max(others, key=lambda each: (shape[each] % parts == 0, shape[each]))
    return axis, tuple(shape[axis] * part // parts for part in range(parts + 1))


def spread(
    kernel: Kernel,
    party: Party,
    operands: Sequence[Any],
    out: Fxp,
    dealers: Sequence[int],
    **attributes: Any,
) -> Protocol[Rss]:
    """Run the kernel on every part.

    The parts share rounds, and only reshared results leave a part.
    """
    shape = tuple(operands[0].shape)
    axis, _ = _found(kernel, operands, len(dealers), **attributes)
    results = yield from parallel(*parts(kernel, party, operands, out, dealers, **attributes))
    mine, following = (
        np.concatenate([np.asarray(getattr(part, name)) for part in results], axis=axis or 0).reshape(shape)
        for name in ("mine", "next")
    )
    return Rss(mine, following, out)


def parts(
    kernel: Kernel,
    party: Party,
    operands: Sequence[Any],
    out: Fxp,
    dealers: Sequence[int],
    **attributes: Any,
) -> list[Protocol[Rss]]:
    """Return the kernel's protocol on every part, in the order of their dealers."""
    axis, cuts = _found(kernel, operands, len(dealers), **attributes)
    count = len(operands) - kernel.vectors  # the operands that are cut
    return [
        kernel.run(
            party.at(f"part{place}").with_dealer(dealer),
            *(_part(each, axis, cuts[place], cuts[place + 1]) for each in operands[:count]),
            *operands[count:],
            out=out,
            **attributes,
        )
        for place, dealer in enumerate(dealers)
    ]


def _found(kernel: Kernel, operands: Sequence[Any], count: int, **attributes: Any) -> tuple[int | None, Cuts]:
    found = cut(kernel, [tuple(each.shape) for each in operands], count, **attributes)
    assert found is not None
    return found


def _part(value: Any, axis: int | None, start: int, stop: int) -> Any:
    if isinstance(value, Rss):
        return Rss(_slice(value.mine, axis, start, stop), _slice(value.next, axis, start, stop), value.fxp)
    return _slice(value, axis, start, stop)


def _slice(array: Array, axis: int | None, start: int, stop: int) -> Array:
    if axis is None:
        return array.reshape(-1)[start:stop]
    return array[(slice(None),) * axis + (slice(start, stop),)]


def spread_costs(
    kernel: Kernel, specs: Sequence[Spec], out: Fxp, count: int, worth: int = ROUND_WORTH, **attributes: Any
) -> list[Cost]:
    """Return the cost of every part. Bytes add up, and rounds are shared."""
    parts_of = part_specs(kernel, specs, count, **attributes)
    return [kernel.cost(*each, out=out, worth=worth, **attributes) for each in parts_of]


def part_specs(kernel: Kernel, specs: Sequence[Spec], count: int, **attributes: Any) -> list[list[Spec]]:
    """Return the operands of every part."""
    axis, cuts = _found(kernel, specs, count, **attributes)
    sizes = [cuts[place + 1] - cuts[place] for place in range(count)]
    whole = len(specs) - kernel.vectors
    return [
        [
            Spec((size,) if axis is None else (*each.shape[:axis], size, *each.shape[axis + 1 :]), each.fxp)
            for each in specs[:whole]
        ]
        + [*specs[whole:]]
        for size in sizes
    ]
