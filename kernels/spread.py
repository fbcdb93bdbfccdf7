"""An elementwise kernel on thirds of its operand, each with another dealer: levels what the parties send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ditto_kernels.cost import Cost, elements
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.party import Party, Protocol, parallel
from ditto_kernels.ring import Fxp
from ditto_kernels.rss import PARTIES, Rss

_BLOCK = 64  # thirds are whole words of bit planes


def thirds(size: int) -> tuple[int, int, int, int]:
    """Where to cut so many elements."""
    part = -(-size // (PARTIES * _BLOCK)) * _BLOCK
    return (0, min(part, size), min(2 * part, size), size)


def spread(kernel: Kernel, party: Party, x: Rss, out: Fxp, **attributes: Any) -> Protocol[Rss]:
    """`kernel` of every element; the thirds share rounds, and nothing but reshared results leaves a third."""
    flat, cuts = x.reshape((-1,)), thirds(x.size)
    run: Callable[..., Protocol[Rss]] = kernel.run
    parts = yield from parallel(
        *(
            run(
                party.at(f"third{dealer}").with_dealer(dealer),
                Rss(
                    flat.mine[cuts[dealer] : cuts[dealer + 1]],
                    flat.next[cuts[dealer] : cuts[dealer + 1]],
                    x.fxp,
                ),
                out=out,
                **attributes,
            )
            for dealer in range(PARTIES)
        )
    )
    mine, following = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts]).reshape(x.shape)
        for name in ("mine", "next")
    )
    return Rss(mine, following, out)


def spread_costs(kernel: Kernel, x: Spec, out: Fxp, **attributes: Any) -> list[Cost]:
    """Cost of every third, by its dealer: bytes add up, rounds are shared."""
    cuts = thirds(elements(x.shape))
    return [
        kernel.cost(Spec((cuts[dealer + 1] - cuts[dealer],), x.fxp), out=out, **attributes)
        for dealer in range(PARTIES)
    ]
