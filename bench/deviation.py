"""What would it cost to detect a party that deviates? A truncation with checks: `python -m bench.deviation`.

It is a study and no part of the product. docs/security.md has the figures and says what is missing. Two
checks are added to `casts.truncate`, and the third is counted.

- Openings. B's message is x_D + r_B, and the dealer has both. A's message is x_{D+1} + x_{D+2} + r_A: B takes
  off x_{D+2}, and the dealer has the rest. So the dealer sends a digest of either, for the whole tensor.
- Resharing. The dealer authenticates dealt shares of A with keys of B, and those of B with keys of A, as
  M = alpha s + beta in ring 64. A message of a resharing is linear in these shares. So one random combination
  of all elements shows a wrong one. The message has to travel in ring 64, too: if its upper bits were named
  only afterwards, a wrong top bit would pass every second time.
- Dealt values, counted: of BUCKET dealt values all but one are sacrificed, each by a comparison, to check the
  last.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.signs import signs
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.sharing.additive import Opened
from ditto_kernels.sharing.casts import carry_and_top, truncate, truncation_bias
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss, share

RING, DROPPED, WIDTH = 32, 12, 16
SOURCE, TARGET = Fxp(RING, 24), Fxp(RING, 24 - DROPPED)
BUCKET = 3  # as edaBits (CRYPTO 2020) take for a million values and more, at 40 bits of statistical security
DIGEST, SEED = 32, 16
_WIDE, _WORD, _NARROW, _BYTE = (np.dtype(each) for each in (np.uint64, np.uint32, np.uint16, np.uint8))
_DEALT = ("carry", "top")
_KEYS = ("alpha", *(f"beta {name}" for name in _DEALT))

Drawn = dict[str, NDArray[Any]]
Tamper = Callable[[Party, str, Array], Array]


class DeviationError(RuntimeError):
    """A party sent what it should not have sent."""


def honest(party: Party, name: str, array: Array) -> Array:
    """Change nothing."""
    return array


def checked_truncate(party: Party, x: Rss, tamper: Tamper = honest) -> Protocol[Rss]:
    """Truncate by DROPPED bits as `casts.truncate` does, or raise DeviationError.

    tamper: changes what a party sends online, for tests.
    Cost: that of a truncation, 96 more bits an element online, 352 more dealt ones, and 112 bytes a tensor.
    The last two rounds need one run for all tensors of a request.
    """
    if party.role == "D":
        return (yield from _dealer(party, x))
    a = party.role == "A"
    own, other = (party.a, party.b) if a else (party.b, party.a)
    drawn = _drawn(party, own if a else party.dealer, x.shape, ("pad", *_KEYS, *(_DEALT if a else ())))
    mask = party.draw_with_dealer("mask", x.shape, _WORD)
    mine, following = x.mine.view(_WORD), x.next.view(_WORD)
    part = (mine + following + _bias() if a else following) + mask
    dealt = ([] if a else [*_DEALT]) + [f"tag {name}" for name in _DEALT]
    theirs, digest, *arrived = yield Round(
        (party.send(other, "opening", tamper(party, "opening", part)),),
        (
            party.expect(other, "opening", x.shape, _WORD),
            party.expect(party.dealer, "digest", (DIGEST,), _BYTE),
            *(party.expect(party.dealer, name, x.shape, _WIDE) for name in dealt),
        ),
    )
    if not np.array_equal(digest, _digest(theirs if a else theirs - mine)):
        raise DeviationError(f"the opening that party {party.rank} got is not what the dealer expects")
    given = drawn | dict(zip(dealt, arrived, strict=True))
    opened = part + theirs
    low = (opened < 1 << (RING - 1)).astype(_WIDE)  # whether the top bit of the opening is 0
    whole = given["carry"] - given["pad"] + low * given["top"]
    message = tamper(party, "wrap", whole)
    (reply,) = yield Round(
        (party.send(other, "wrap", message),), (party.expect(other, "wrap", x.shape, _WIDE),)
    )
    tags = given["tag carry"] + low * given["tag top"]
    keys = given["beta carry"] + low * given["beta top"]
    yield from _proved(party, other, tags, given["alpha"] * reply + keys)
    pad, joined = given["pad"].astype(_NARROW), (message + reply).astype(_NARROW)
    from_mask, from_opening = _of_mask(mask, pad), _of_opening(opened, joined)
    return Rss(from_mask, from_opening, TARGET) if a else Rss(from_opening, from_mask, TARGET)


def _proved(party: Party, other: int, tags: Array, wanted: Array) -> Protocol[None]:
    """Show the other party a combination of the own message's tags, and check the other's.

    wanted: the tags that the other's message ought to have. Each party chooses the coefficients for the other
    one, when it has the message.
    """
    seed = party.draw(party.rank + (1 if party.role == "B" else 0), "seed", (SEED,), _BYTE)
    (asked,) = yield Round((party.send(other, "seed", seed),), (party.expect(other, "seed", (SEED,), _BYTE),))
    (received,) = yield Round(
        (party.send(other, "proof", _combined(asked, tags)),), (party.expect(other, "proof", (1,), _WIDE),)
    )
    if received != _combined(seed, wanted):
        raise DeviationError(f"the resharing that party {party.rank} got is not of the dealt shares")


def _dealer(party: Party, x: Rss) -> Protocol[Rss]:
    """Deal shares with tags, and send digests of the openings."""
    of_a = _drawn(party, party.a, x.shape, ("pad", *_KEYS, *_DEALT))
    of_b = _drawn(party, party.dealer, x.shape, ("pad", *_KEYS))
    first, second = party.draw_both("mask", x.shape, _WORD)
    values = carry_and_top(first.view(np.int32), second.view(np.int32), width=64)
    for name, value in zip(_DEALT, values, strict=True):
        of_b[name] = value.view(_WIDE) - of_a[name]
    sends = [party.send(party.b, name, of_b[name], offline=True) for name in _DEALT]
    for to, shares, keys in ((party.a, of_a, of_b), (party.b, of_b, of_a)):
        for name in _DEALT:
            value = shares[name] - shares["pad"] if name == "carry" else shares[name]
            tag = keys["alpha"][0] * value + keys[f"beta {name}"]
            sends.append(party.send(to, f"tag {name}", tag, offline=True))
    mine, following = x.mine.view(_WORD), x.next.view(_WORD)
    digests = ((party.a, mine + second), (party.b, following + first + _bias()))
    yield Round((*sends, *(party.send(to, "digest", _digest(each)) for to, each in digests)))
    for _ in range(3):
        yield Round()
    pads = (each["pad"].astype(_NARROW) for each in (of_b, of_a))
    mine, following = (_of_mask(mask, pad) for mask, pad in zip((second, first), pads, strict=True))
    return Rss(mine, following, TARGET)


def _drawn(party: Party, component: int, shape: tuple[int, ...], names: tuple[str, ...]) -> Drawn:
    sizes = {name: (1,) if name == "alpha" else shape for name in names}
    return {name: party.draw(component, name, size, _WIDE) for name, size in sizes.items()}


def _bias() -> np.uint32:
    return np.uint32(truncation_bias(RING, DROPPED))


def _digest(array: Array) -> NDArray[np.uint8]:
    data = np.ascontiguousarray(array).data.cast("B")
    return np.frombuffer(hashlib.blake2b(data, digest_size=DIGEST).digest(), np.uint8)


def _combined(seed: Array, values: Array) -> NDArray[np.uint64]:
    """Return a combination of a tensor's elements, with coefficients that follow from the seed."""
    source = np.random.Generator(np.random.Philox(key=seed.view(np.uint64)))
    factors = source.integers(0, 1 << 64, values.size, np.uint64)
    return np.array([np.dot(factors, values.reshape(-1))])


def _of_mask(mask: Array, wrap: Array) -> Array:
    shifted = wrap.astype(_WORD) << np.uint32(RING - DROPPED)
    return (shifted - (mask >> np.uint32(DROPPED))).view(np.int32)


def _of_opening(opened: Array, wrap: Array) -> Array:
    shifted = wrap.astype(_WORD) << np.uint32(RING - DROPPED)
    return (shifted + (opened >> np.uint32(DROPPED)) - np.uint32(1 << (RING - 2 - DROPPED))).view(np.int32)


def sacrificed_bits(elements: int) -> float:
    """Return the bits an element over all parties, of comparisons that check dealt values by others."""
    word = absent((elements,), np.dtype(np.int32))
    cost = cost_of(signs, Opened(word, word, Fxp(RING, 0)))
    return 8 * (BUCKET - 1) * (sum(cost.online) + sum(cost.offline)) / elements


def main(elements: int = 1 << 18, times: int = 7) -> None:
    values = np.random.default_rng(0).integers(-(1 << 29), 1 << 29, elements).astype(np.int32)
    parts = share(values, SOURCE, np.random.default_rng(1).bytes)
    programs: dict[str, Callable[[Party, Any], Protocol[Rss]]] = {
        "semi-honest": lambda party, _: truncate(party, parts[party.rank], DROPPED),
        "checked": lambda party, _: checked_truncate(party, parts[party.rank]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(times):
        for name, program in programs.items():
            started = time.process_time()
            _, traffic = run_in_turns(program)
            seconds[name].append(time.process_time() - started)
            online, offline = (
                8 * sum(counts) / elements
                for counts in zip(*((each.bytes_sent, each.offline_bytes) for each in traffic), strict=True)
            )
            if len(seconds[name]) == times:
                median, fastest = statistics.median(seconds[name]), min(seconds[name])
                print(
                    f"{name}: {online:.3f} bits an element online, {offline:.1f} dealt, "
                    f"{median * 1e3:.0f} ms of processor time at three parties (least {fastest * 1e3:.0f})"
                )
    one = 8 * sum(cost_of(truncate, Spec((elements,), SOURCE), DROPPED).offline) / elements
    checks = sacrificed_bits(elements)
    print(
        f"sacrificed dealt values, counted: {BUCKET} x {one + 352:.0f} + {checks:.0f} dealt bits an element"
    )


if __name__ == "__main__":
    main()
