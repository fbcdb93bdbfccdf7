"""Generate tokens over a cache that is kept from turn to turn."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import DittoError, InputError, require_whole
from ditto_spu.generation import rooms
from ditto_spu.generation.decoder import Decoder, check_texts, one_hot
from ditto_spu.generation.drafts import Drafts
from ditto_spu.generation.generated import Token
from ditto_spu.generation.sampling import GREEDY, Sampling
from ditto_spu.plan.cost_report import CostReport

_FREE = CostReport(())  # of tokens beyond the first of a pass


@dataclass(frozen=True)
class Outcome:
    """What a pass returns.

    logits: [batch, wanted, vocabulary], or None if the parties chose the token.
    ids: the tokens [batch] that the parties chose, else None. hot: the same as one-hot rows, in shares.
    cache: handles.
    """

    logits: NDArray[np.float32] | None
    ids: NDArray[np.int64] | None
    hot: Any
    cache: Any
    report: CostReport


class Passes(Protocol):
    """The passes of a decoder, which `Generator` describes."""

    decoder: Decoder
    length: int
    prefix: int

    @property
    def opens_logits(self) -> bool: ...

    def room(self, places: int) -> int: ...

    def first(self, hot: Any, rows: NDArray[np.int32], length: int) -> Outcome: ...

    def further(
        self, cache: Any, hot: Any, position: NDArray[np.int32], rows: NDArray[np.int32]
    ) -> Outcome: ...

    def grown(self, cache: Any, length: int) -> Any: ...


class Conversation:
    """Texts whose cache is kept in shares between calls of `stream`.

    Every call gives the whole texts so far. What they have in common with the kept cache is not computed
    again, so a further turn of a chat costs the tokens that are new. Nothing depends on the cache but cost.
    """

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._cache: Any = None
        self._room = 0
        self._covered: list[list[int]] = []  # the tokens of each text whose keys and values the cache has

    @property
    def covered(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of each text that the cache holds."""
        return tuple(map(tuple, self._covered))

    def common(self, text: Sequence[int]) -> int:
        """Return how many tokens at the beginning of a text need not be computed again."""
        return _common(text, self._covered[0]) if self._covered else 0

    def drop(self) -> None:
        """Give the cache up. The next call computes its texts anew."""
        self._cache, self._room, self._covered = None, 0, []

    def stream(
        self,
        ids: Any,
        steps: int,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
        drafts: Drafts | None = None,
    ) -> Iterator[Token]:
        """Yield up to `steps` tokens after the texts `ids`, as `Generator.stream` does."""
        passes, decoder = self._passes, self._passes.decoder
        texts = check_texts(ids, decoder.vocabulary)
        longest = max(map(len, texts))
        require_whole(steps=steps)
        if steps < 1:
            raise InputError(f"steps is {steps}: generate at least one token")
        if passes.prefix + longest + steps > passes.length:
            before = f"{passes.prefix} tokens of prefix, " if passes.prefix else ""
            raise InputError(
                f"{before}{longest} tokens of prompt and {steps} steps, but the cache has room for "
                f"{passes.length}: ask for fewer steps, or make the generator with a larger `length`"
            )
        if not passes.opens_logits and sampling.draws:
            raise InputError(
                "with next_token='secret' the likeliest token is taken: top_k needs next_token='client'"
            )
        if len(set(map(len, texts))) > 1 and not decoder.ragged:
            raise InputError(
                "this decoder takes prompts of one length: give them one by one, or make it `ragged`"
            )
        if drafts is not None and not (decoder.ragged and passes.opens_logits and len(texts) == 1):
            raise InputError(
                "drafts are for one text, next_token='client' and a decoder that is `ragged`: leave them out"
            )
        if not isinstance(stop, Collection) or not all(isinstance(each, Integral) for each in stop):
            raise InputError(f"stop is {stop!r:.60}: give a list of token ids, such as [2]")
        return self._tokens(texts, steps, sampling, frozenset(map(int, stop)), drafts)

    def _tokens(
        self,
        texts: list[list[int]],
        steps: int,
        sampling: Sampling,
        stop: frozenset[int],
        drafts: Drafts | None,
    ) -> Iterator[Token]:
        rng, hot, done = sampling.generator(), None, 0
        stopped = np.zeros(len(texts), bool)
        while done < steps and not stopped.all():
            started, guess = time.perf_counter(), []
            if drafts is not None and done:  # the prompt runs alone, for which its programs are made
                guess = drafts.after(texts[0], steps - done - 1, self._passes.decoder.vocabulary)
            try:
                outcome = self._run(texts, guess, hot, drafts)
            except DittoError:
                self.drop()  # the parties may have lost it
                raise
            hot, report = outcome.hot, outcome.report
            for number in range(len(guess) + 1):
                if outcome.logits is None:
                    assert outcome.ids is not None
                    ids = outcome.ids
                else:
                    ids = sampling.choose(outcome.logits[:, number], rng)
                place = self._passes.prefix + max(map(len, texts))
                for text, chosen in zip(texts, ids.tolist(), strict=True):
                    text.append(chosen)
                yield Token(place, ids, report, time.perf_counter() - started)
                started, report = time.perf_counter(), _FREE
                stopped |= np.isin(ids, list(stop))
                done += 1
                if stopped.all() or (number < len(guess) and guess[number] != ids[0]):
                    break

    def _run(self, texts: list[list[int]], guess: Sequence[int], hot: Any, drafts: Drafts | None) -> Outcome:
        """Run the tokens that the cache lacks, and guesses behind them. Keep the cache that this leaves.

        hot: the last token of each text in shares, where the client did not choose it.
        """
        passes, ragged, start = self._passes, self._passes.decoder.ragged, self._passes.prefix
        known = self._known(texts)
        fed = [[*text[place:], *guess] for text, place in zip(texts, known, strict=True)]
        count = max(map(len, fed))
        if drafts is not None and guess:
            count = drafts.count + 1
        elif ragged:
            count = rooms.tokens(count, passes.length - start)
        wanted = count if guess else 1  # one shape for any number of guesses
        rows = [
            [min(len(text) - place - 1 + number, len(new) - 1) for number in range(wanted)]
            for text, place, new in zip(texts, known, fed, strict=True)
        ]
        if hot is None or any(len(new) > 1 for new in fed):  # the cache may serve another text by now
            # Padding repeats the last token. What it leaves in the cache is overwritten before it is seen.
            padded = [[*new, *new[-1:] * (count - len(new))] for new in fed]
            hot = one_hot(padded, passes.decoder.vocabulary)
        places = start + max(map(len, texts)) + len(guess)
        room = passes.room(places)
        if not any(known):
            room = max(room, start + count)
            outcome = passes.first(hot, np.asarray(rows, np.int32), room)
        else:
            if room > self._room:
                self._cache = passes.grown(self._cache, room)
            room = max(room, self._room)
            outcome = passes.further(
                self._cache, hot, np.asarray(known, np.int32) + np.int32(start), np.asarray(rows, np.int32)
            )
        self._cache, self._room = outcome.cache, room
        self._covered = [[*text, *guess] for text in texts]
        return outcome

    def _known(self, texts: Sequence[Sequence[int]]) -> list[int]:
        """Return how many tokens of each text need not be computed again. The last one is, for its logits."""
        if len(texts) != len(self._covered):
            return [0] * len(texts)
        pairs = zip(texts, self._covered, strict=True)
        known = [min(_common(text, covered), len(text) - 1) for text, covered in pairs]
        one_is_new = all(len(text) - place == 1 for text, place in zip(texts, known, strict=True))
        return known if self._passes.decoder.ragged or one_is_new else [0] * len(texts)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two texts have in common at their beginning."""
    pairs = zip(left, right, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right))
    )
