"""Write the replies of the interface: models, embeddings, answers and their streams."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def listed(name: str) -> dict[str, Any]:
    """Return the entry of a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "ditto_spu"}


def embeddings(
    name: str, vectors: Sequence[NDArray[np.float32]], tokens: int, as_base64: bool
) -> dict[str, Any]:
    """Return the reply with one vector a text. In base64 a vector is its float32 numbers, low byte first."""
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": base64.b64encode(each.astype("<f4").tobytes()).decode()
            if as_base64
            else each.tolist(),
        }
        for place, each in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Return the numbers of tokens of an answer."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


class Answer:
    """The reply to one request for an answer, whole or as the events of a stream."""

    def __init__(self, name: str) -> None:
        self._name, self._created = name, int(time.time())
        self._id = f"chatcmpl-{secrets.token_hex(12)}"

    def whole(self, text: str, finish: str | None, used: dict[str, int]) -> dict[str, Any]:
        """Return the whole reply."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": used}

    def event(self, delta: dict[str, str], finish: str | None = None) -> str:
        """Return one event of a stream. delta: what it adds to the message."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def last(self, used: dict[str, int]) -> str:
        """Return the event with the usage, which has no choices."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": used})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._name}


def event(data: dict[str, Any]) -> str:
    """Return data as one server-sent event."""
    return f"data: {json.dumps(data)}\n\n"


END = "data: [DONE]\n\n"
