"""The view of a party: what it draws, receives and computes in a run, and statistics of many views.

A party's view tells nothing about inputs if what it receives is uniform, whatever it draws itself. So a test
fixes all shares of the operands, runs a protocol many times under fresh keys, and looks for a dependence
among the bits that the party receives and draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.experimental import enable_x64
from numpy.typing import NDArray

from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.link import Receive
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.protocol.randomness import PairKeys, Randomness
from ditto_kernels.protocol.three_threads import fresh_keys
from ditto_kernels.values.replicated import Rss

# Some bits of the keys of point functions are zero by definition: the lowest one of a seed, which is the
# place of a control bit, and six bits of a byte that holds two control bits.
SAMPLES = 48  # the samples, beside the first one, that tell columns apart
PAIRED = 256  # among so many columns, sets of three and four are looked for
_FREE_BITS: dict[str, tuple[int, ...]] = {
    "corrections": (*range(1, 64), *range(64, 128)),
    "flips": (0, 1),
}


@dataclass(frozen=True)
class Seen:
    """One tensor of a view. Its name has the stream or the message's tag; `source` is the sender's rank."""

    name: str
    array: NDArray[Any]
    source: int | None = None

    @property
    def kind(self) -> str:
        """The last part of the name: the same in every kernel that uses a building block."""
        return self.name.rpartition(":")[2]

    def bits(self) -> NDArray[np.bool_]:
        """Return the bits that ought to be uniform, element by element, lowest first: (elements, bits)."""
        array = np.ascontiguousarray(self.array)
        width = 128 if self.kind == "corrections" else 8 * array.dtype.itemsize
        bits = np.unpackbits(array.reshape(-1).view(np.uint8), bitorder="little").reshape(-1, width)
        free = _FREE_BITS.get(self.kind)
        return (bits if free is None else bits[:, free]).astype(bool)


@dataclass(frozen=True)
class View:
    """The view of one party: its draws, the messages to it, and its components of the results."""

    drawn: list[Seen] = field(default_factory=list)
    received: list[Seen] = field(default_factory=list)
    results: list[Seen] = field(default_factory=list)

    def columns(self, lowest: bool = False) -> NDArray[np.bool_]:
        """Return the bits of all draws and messages, in an order that depends on names alone.

        With `lowest` each element gives its lowest bit. Every dependence that is linear in a ring, with an
        odd coefficient, shows there.
        """
        return _joined([*self.drawn, *self.received], lowest)

    def messages(self) -> NDArray[np.bool_]:
        """Return the bits of all messages."""
        return _joined(self.received, False)

    def components(self) -> NDArray[np.bool_]:
        """Return the lowest bits of the party's components of the results."""
        return _joined(self.results, True)


def _joined(parts: Sequence[Seen], lowest: bool) -> NDArray[np.bool_]:
    ordered = sorted(parts, key=lambda each: (each.name, each.source is not None, each.source))
    bits = [each.bits()[:, : 1 if lowest else None].reshape(-1) for each in ordered if each.array.size]
    return np.concatenate(bits) if bits else np.zeros(0, bool)


class Recorded:
    """A party's randomness that notes what it draws."""

    def __init__(self, randomness: Any, view: View) -> None:
        self._randomness, self._view = randomness, view

    def draw(self, component: int, label: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        drawn = self._randomness.draw(component, label, shape, dtype)
        self._view.drawn.append(Seen(f"{component}{label}", drawn.copy()))
        return drawn


def watched(protocol: Protocol[Any], view: View) -> Protocol[Any]:
    """Return the same protocol, whose messages and results are noted."""
    received: list[NDArray[Any]] | None = None
    while True:
        try:
            step: Round = next(protocol) if received is None else protocol.send(received)
        except StopIteration as stop:
            for place, each in enumerate(_results(stop.value)):
                view.results.extend((Seen(f"{place}mine", each.mine), Seen(f"{place}next", each.next)))
            return stop.value
        received = yield step
        for expected, array in zip(step.receives, received, strict=True):
            view.received.append(Seen(expected.tag, np.array(array), expected.source))


def _results(value: Any) -> list[Rss]:
    if isinstance(value, Rss):
        return [value]
    return [found for each in value for found in _results(each)] if isinstance(value, list | tuple) else []


def views(
    program: Callable[[Party], Protocol[Any]], seed: bytes, fixed: int | None = None
) -> tuple[View, View, View]:
    """Run a program at three parties under the keys of a seed, and return their views.

    fixed: a party whose two keys are always the same, so that only the third key follows from the seed.
    """
    found = (View(), View(), View())

    def at(party: Party, _: Any) -> Protocol[Any]:
        view = found[party.rank]
        randomness: Any = Recorded(party.randomness, view)
        return watched(program(party._replace(randomness=randomness)), view)

    run_in_turns(at, keys=fresh_keys(seed) if fixed is None else _keys_but_one(seed, fixed))
    return found


def _keys_but_one(seed: bytes, number: int) -> tuple[PairKeys, PairKeys, PairKeys]:
    keys = [each.mine for each in fresh_keys(b"fixed")]
    third = (number + 2) % 3
    keys[third] = fresh_keys(seed)[third].mine
    first, second, last = (PairKeys(each, keys[each], keys[(each + 1) % 3]) for each in range(3))
    return first, second, last


def matrix(seen: Sequence[View], lowest: bool = False, limit: int | None = None) -> NDArray[np.bool_]:
    """Return the columns of several views of one party, one row per view.

    limit: the most columns. The choice is random, and the same for views of the same shapes.
    """
    count = seen[0].columns(lowest).size
    places = np.arange(count)
    if limit is not None and count > limit:
        places = np.sort(np.random.default_rng(11).permutation(count)[:limit])
    return np.stack([each.columns(lowest)[places] for each in seen])


def simulated(program: Callable[[Party], Protocol[Any]], number: int, seed: bytes) -> View:
    """Return the view of party `number` as a simulator makes it, from that party's operands alone.

    The simulator draws keys and messages uniformly, and computes what the party computes from them. It knows
    no other party's operands, and nothing of the results but the party's own components.
    """
    view, source = View(), np.random.default_rng([*seed, number])
    randomness: Any = Recorded(Randomness(fresh_keys(seed)[number]), view)
    protocol = watched(program(Party(number, randomness)), view)
    received: list[NDArray[Any]] | None = None
    with enable_x64(), np.errstate(over="ignore"):
        while True:
            try:
                step = next(protocol) if received is None else protocol.send(received)
            except StopIteration:
                return view
            received = [_uniform(each, source) for each in step.receives]


def _uniform(expected: Receive, source: np.random.Generator) -> NDArray[Any]:
    """Return a message as the simulator draws it: uniform, but for bits that are zero by definition."""
    size = math.prod(expected.shape) * expected.dtype.itemsize
    array = np.frombuffer(bytearray(source.bytes(size)), expected.dtype).reshape(expected.shape)
    kind = expected.tag.rpartition(":")[2]
    if kind == "corrections":
        array[..., 0] &= np.uint64(2**64 - 2)
    return array & np.uint8(3) if kind == "flips" else array


def dependent(samples: NDArray[np.bool_]) -> set[frozenset[int]]:
    """Return sets of columns whose exclusive or is the same in every sample.

    They have one or two columns, and among up to PAIRED columns also three or four. Of columns that are
    alike, the larger sets name the first. Chance makes a given set such with a probability of 2^-48.

    samples: one row per run, SAMPLES + 1 of them.
    """
    words = _words(samples)
    order = np.argsort(words, kind="stable")
    again = np.flatnonzero(words[order][1:] == words[order][:-1])
    found = {frozenset({int(each)}) for each in np.flatnonzero(words == 0)}
    found |= {frozenset({int(order[place]), int(order[place + 1])}) for place in again}
    if words.size > PAIRED:
        return found
    kept = np.setdiff1d(np.setdiff1d(np.arange(words.size), order[again + 1]), np.flatnonzero(words == 0))
    one, two = (kept[each] for each in np.triu_indices(kept.size, 1))
    sums = words[one] ^ words[two]
    order = np.argsort(sums)
    sums, one, two = sums[order], one[order], two[order]
    for place in kept:
        at = np.searchsorted(sums, words[place])
        if at < sums.size and sums[at] == words[place]:
            found.add(frozenset({int(place), int(one[at]), int(two[at])}))
    for at in np.flatnonzero(sums[1:] == sums[:-1]):
        found.add(frozenset({int(one[at]), int(two[at]), int(one[at + 1]), int(two[at + 1])}))
    return found


def _words(samples: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return each column as a word of 48 samples, as differences from the first one."""
    apart = np.zeros((64, samples.shape[1]), bool)
    apart[:SAMPLES] = (samples[1:] ^ samples[0])[:SAMPLES]
    return np.packbits(np.ascontiguousarray(apart.T), axis=1).view(np.uint64)[:, 0]


def rank(samples: NDArray[np.bool_]) -> int:
    """Return the rank over GF(2) of the columns and a constant one. There are more samples than columns."""
    ones = np.ones((len(samples), 1), bool)
    packed = np.packbits(np.concatenate([ones, samples], axis=1).T, axis=1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    rows = np.ascontiguousarray(padded).view(np.uint64)
    found = 0
    for place in range(len(rows)):
        nonzero = np.flatnonzero(rows[place])
        if nonzero.size:
            word = nonzero[0]
            value = int(rows[place, word])
            has = (rows[place + 1 :, word] & np.uint64(value & -value)) != 0
            rows[place + 1 :][has] ^= rows[place]
            found += 1
    return found


def chi_square(seen: Sequence[NDArray[np.bool_]]) -> float:
    """Return the largest chi-square statistic, of 15 degrees of freedom, of nibbles that ought to be uniform.

    seen: bits as `Seen.bits` returns them.
    """
    bits = np.concatenate([each.reshape(-1) for each in seen])
    nibbles = bits[: bits.size // 4 * 4].reshape(-1, 4) @ np.array([1, 2, 4, 8])
    expected = nibbles.size / 16
    if expected < 5:
        return 0.0
    counts = np.bincount(nibbles, minlength=16)
    return float(np.sum((counts - expected) ** 2) / expected)
