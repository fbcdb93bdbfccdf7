"""Few rows are normalised in five rounds, with openings and dealt products for all that is not linear.

A and B open x. Sums of squares are then local, because products of masks are dealt. Next they open the
windows of the inverse root (`root_by_tables`) with the weights and the row's sum. Then they open the windows'
values with the weighted centred elements, and then the root. The last product is local again and is reshared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ditto_kernels.norm.five_rounds_plan import Few
from ditto_kernels.norm.root_by_tables import choose, deal_choice, deal_tables, evaluate, window_shares
from ditto_kernels.products.multiply import finish_additive
from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, deal, draw_together, parallel
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.sharing.lift_opened import Lift, dealers_part, mask_part, open_part
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

Tensors = Mapping[str, Array]


def _masks(party: Party, plan: Few, component: int) -> Tensors:
    """Draw A's masks (component D + 1) or B's (component D), all from one stream."""
    tensors = draw_together(party, component, "masks", plan.masks)
    return {mask.name: tensor for mask, tensor in zip(plan.masks, tensors, strict=True)}


def _material(plan: Few, first: Tensors, second: Tensors) -> list[Array]:
    """Return the dealer's values of `Few.dealt`, from A's and B's masks."""
    inner, carry, top = dealers_part(first["x"], second["x"], plan.x)
    spread = plan.factor * inner - inner.sum(axis=-1, keepdims=True) if plan.centres else inner
    values = {"squares": (spread * inner).sum(axis=-1, keepdims=True)}
    wraps = [carry, top, spread.astype(top.dtype) * top]
    if plan.shared:
        weight = first["weight"] + second["weight"]
        moved = plan.factor * inner - first["total"] - second["total"] if plan.centres else inner
        values["weighted"] = weight * moved
        wraps.append(weight.astype(top.dtype) * top)
    values["x_wraps"] = np.stack(wraps)
    values["polynomials"], values["bits"] = deal_tables(plan.windows, first["index"] + second["index"])
    pattern = first["pattern"] + second["pattern"]
    values["choice"] = deal_choice(plan.windows, pattern, first["values"], second["values"])
    root = first["root"] + second["root"]
    inner, carry, top = dealers_part(first["weighted"], second["weighted"], plan.weighted)
    values["product"] = inner * root
    values["wraps"] = np.stack([carry, top, root.astype(top.dtype) * top])
    return [values[item.name] for item in plan.dealt]


def _deal(party: Party, plan: Few) -> Protocol[None]:
    """Do the dealer's side, which deals everything at once."""

    def make() -> list[Array]:
        return _material(plan, _masks(party, plan, party.a), _masks(party, plan, party.dealer))

    yield from deal(party, plan.dealt, make)
    for _ in plan.rounds:
        yield Round()


def _open(party: Party, items: Sequence[Deal], masks: Tensors, shares: Tensors) -> Protocol[Tensors]:
    """Let A and B swap masked shares and add them up, in one round."""
    other = party.b if party.role == "A" else party.a
    mine = {item.name: shares[item.name] + masks[item.name] for item in items}
    received = yield Round(
        tuple(party.send(other, f"open {name}", each) for name, each in mine.items()),
        tuple(party.expect(other, f"open {item.name}", item.shape, item.dtype) for item in items),
    )
    return {name: each + theirs for (name, each), theirs in zip(mine.items(), received, strict=True)}


@dataclass(frozen=True)
class _Lifted:
    """A vector in ring 64 as A or B knows it.

    `part` is open, and `mask` is the party's share of the rest (see `lift_opened`).
    """

    part: Array
    mask: Array
    sees: Array  # says where a wrap of the mask counts
    lift: Lift

    def wrapped(self, products: Array) -> Array:
        """Return shares of dealt products of top bits, where they count."""
        return self.lift.wrapped(products * self.sees)


def _lifted(lift: Lift, c: Array, mask: Array, given: Tensors, name: str) -> _Lifted:
    """Lift an opening c. `given` has the shares of its wraps under `name`, where wraps matter."""
    sees: Array = c >= 0
    wraps = given[name][0] + given[name][1] * sees if lift.wraps else sees
    return _Lifted(open_part(c, lift), mask_part(mask, lift, wraps), sees, lift)


def _compute(party: Party, plan: Few, x: Array, weight: Array) -> Protocol[Array]:
    """Do A's or B's side and return the party's share of the last product.

    It starts from shares of x and of gamma, or from gamma itself, encoded.
    """
    leader, rounds = party.role == "A", plan.rounds
    bias = 1 if leader else 0
    masks = _masks(party, plan, party.a if leader else party.dealer)
    shares = yield from deal(party, plan.dealt, list)
    given: Tensors = {item.name: share for item, share in zip(plan.dealt, shares, strict=True)}

    opened = yield from _open(party, rounds[0], masks, {"x": x + x.dtype.type(bias * plan.x.bias)})
    values = _lifted(plan.x, opened["x"], masks["x"], given, "x_wraps")
    share = values.part + values.mask if leader else values.mask
    total: Array = share.sum(axis=-1, keepdims=True) if plan.centres else np.zeros((), np.int64)
    number = _squares(plan, values, share, given) + np.int64(bias * plan.eps)
    index = window_shares(plan.windows, number, leader)

    opened = yield from _open(party, rounds[1], masks, {"weight": weight, "total": total, "index": index})
    centred = plan.factor * share - total
    if plan.shared:
        weighted = _weighted(plan, values, centred, opened, masks["weight"], given)
    else:
        weighted = centred * weight
    root, pattern = evaluate(plan.windows, opened["index"], given["polynomials"], given["bits"])
    weighted += np.int64(bias * plan.weighted.bias)
    root += np.int64(bias * plan.windows.lift.bias)

    opened = yield from _open(
        party, rounds[2], masks, {"weighted": weighted, "values": root, "pattern": pattern}
    )
    values = _lifted(plan.weighted, opened["weighted"], masks["weighted"], given, "wraps")
    root = choose(plan.windows, opened["pattern"], opened["values"], given["choice"])

    opened = yield from _open(party, rounds[3], masks, {"root": root})
    scale = opened["root"] - masks["root"] if leader else -masks["root"]
    product = values.part * scale + values.mask * opened["root"] + given["product"]
    return product - values.wrapped(given["wraps"][2]) if plan.weighted.wraps else product


def _squares(plan: Few, values: _Lifted, share: Array, given: Tensors) -> Array:
    """Return shares of factor sum(x^2) - sum(x)^2, or of sum(x^2).

    With x = u + m, the dealer deals the part that depends on m alone.
    """
    part = values.part
    spread = plan.factor * part - part.sum(axis=-1, keepdims=True) if plan.centres else part
    total = (spread * (share + values.mask)).sum(axis=-1, keepdims=True) + given["squares"]
    if plan.x.wraps:
        total -= values.wrapped(given["x_wraps"][2]).sum(axis=-1, keepdims=True) << np.int64(1)
    return total


def _weighted(
    plan: Few, values: _Lifted, centred: Array, opened: Tensors, mask: Array, given: Tensors
) -> Array:
    """Return shares of centred x times gamma. Both factors were opened under masks."""
    part = plan.factor * values.part - opened["total"] if plan.centres else values.part
    product = opened["weight"] * centred - mask * part + given["weighted"]
    if plan.x.wraps:
        product -= plan.factor * values.wrapped(given["x_wraps"][3])
    return product


def normalise(
    party: Party, plan: Few, x: Rss, gamma: Rss | Array, beta: Rss | Array | None, out: Fxp
) -> Protocol[Rss]:
    """Divide few rows of x by the root of their squares, times gamma plus beta.

    Rows are centred first if the plan says so. Range: that of the kernel. Error:
    `five_rounds_plan.few_error`. Rounds: open x, windows, values, root, reshare: 5. There is one more into
    ring 64, and two more for gamma or beta in a smaller ring.

    Security: all that A and B open is under a fresh mask that fills its container. The dealt values depend on
    masks alone, with ordinary shares too. Source: own, with one-time truth tables (TinyTable, ePrint
    2016/695).
    """
    fxp = Fxp(64, plan.product_bits)
    shift = plan.shift(beta.fxp) if isinstance(beta, Rss) else fxp
    gamma, beta = yield from parallel(
        _widened(party.at("gamma"), gamma, plan.weight), _widened(party.at("beta"), beta, shift)
    )
    if party.role == "D":
        yield from _deal(party, plan)
        product = absent(x.shape, fxp.dtype)
    else:
        weight = from_rss(party, gamma).share if isinstance(gamma, Rss) else encode(gamma, plan.weight)
        rows = from_rss(party, x).share.reshape(plan.rows, plan.length)
        product = (yield from _compute(party, plan, rows, weight)).reshape(x.shape)
        if isinstance(beta, Rss):
            product += from_rss(party, beta).share << np.int64(plan.product_bits - shift.fraction_bits)
        elif beta is not None and party.role == "A":
            product += encode(beta, shift)
    return (yield from finish_additive(party.at("result"), Additive(product, fxp), out))


def _widened(party: Party, value: Rss | Array | None, fxp: Fxp) -> Protocol[Any]:
    return (yield from convert(party, value, fxp)) if isinstance(value, Rss) else value
