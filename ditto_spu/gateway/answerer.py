"""Answer conversations, over caches that are kept for their next turns."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ditto_spu.checkpoints.tokenizer import Tokenizer
from ditto_spu.errors import InputError
from ditto_spu.gateway.bodies import ChatBody
from ditto_spu.gateway.refusals import Refusal
from ditto_spu.generation.drafts import Drafts
from ditto_spu.generation.sampling import GREEDY, Sampling
from ditto_spu.generation.text import Piece, pieces

KEPT = 2  # conversations whose caches are kept for a next turn


class Answerer:
    """A decoder with its tokenizer.

    generator: a `Generator`, or anything with its `length` and `conversation()`. drafts: how it guesses.
    prefix: the system's message of all conversations, if it is the generator's public prefix.
    """

    def __init__(
        self, generator: Any, tokenizer: Tokenizer, drafts: Drafts | None = None, prefix: str | None = None
    ) -> None:
        if tokenizer.template is None:
            raise InputError("this checkpoint has no chat template: give one that was trained to chat")
        self._generator, self._tokenizer, self._drafts = generator, tokenizer, drafts
        self._system = None if prefix is None else {"role": "system", "content": prefix}
        self._opening = [] if prefix is None else tokenizer.opening(prefix)
        self._room = generator.length - len(self._opening)
        self._kept: list[Any] = []  # the one that was used last is the last

    def ids(self, body: ChatBody) -> list[int]:
        """Return the ids of the conversation. Raises Refusal for one that leaves no room for an answer."""
        messages = body.messages
        if self._system is not None and messages[0] != self._system:
            if messages[0]["role"] == "system":
                raise Refusal(
                    "this gateway's system message is public and fixed: leave yours out", param="messages[0]"
                )
            messages = [self._system, *messages]
        try:
            ids = self._tokenizer.chat_behind(self._opening, messages)
        except InputError as error:
            raise Refusal(str(error), param="messages") from None
        if len(ids) >= self._room:
            raise Refusal(
                f"the messages have {len(ids)} tokens, and there is room for {self._room} with the answer",
                param="messages",
                code="context_length_exceeded",
            )
        return ids

    def answer(self, ids: Sequence[int], body: ChatBody) -> Generator[Piece, None, None]:
        """Yield the answer as it comes, and keep its conversation for a next turn."""
        sampling = GREEDY
        if body.temperature > 0:
            sampling = Sampling(None, body.temperature, body.seed, body.top_p)
        left = self._room - len(ids)
        steps = left if body.max_tokens is None else min(left, body.max_tokens)
        conversation, stop = self._taken(ids), self._tokenizer.stop
        try:
            tokens = conversation.stream(list(ids), steps, sampling, stop, self._drafts)
            yield from pieces(tokens, self._tokenizer.decode, stop, body.stop)
        finally:
            if conversation.covered:
                self._kept = [*self._kept, conversation][-KEPT:]

    def _taken(self, ids: Sequence[int]) -> Any:
        """Return the kept conversation of which these ids repeat the most, or a new one if that is little."""
        nearest = max(self._kept, key=lambda each: each.common(ids), default=None)
        if nearest is not None and 2 * nearest.common(ids) >= len(nearest.covered[0]):
            self._kept.remove(nearest)
            return nearest
        return self._generator.conversation()
