"""Read the bodies of requests. What they ask for and is not served here is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ditto_spu.gateway.refusals import Refusal

_ROLES = ("system", "user", "assistant")
# Fields that are accepted with values that ask for nothing. Null asks for nothing everywhere.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "store": (False,),
}
_CHAT = (
    *("model", "messages", "stream", "stream_options", "stop", "max_tokens", "max_completion_tokens"),
    *("temperature", "top_p", "seed", "user"),
)
_EMBEDDINGS = ("model", "input", "encoding_format", "user")
_STOPS = 4


@dataclass(frozen=True)
class ChatBody:
    """A request for an answer. temperature: 0 is greedy. usage: whether a stream ends with its usage."""

    model: str
    messages: list[dict[str, str]]
    stream: bool
    usage: bool
    stop: tuple[str, ...]
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True)
class EmbeddingBody:
    """A request for embeddings. inputs: texts, or lists of token ids. base64: how vectors are written."""

    model: str
    inputs: list[str] | list[list[int]]
    base64: bool


def chat_body(body: Any) -> ChatBody:
    """Read the body of /v1/chat/completions. Raises Refusal for what is missing, wrong or not served."""
    given = _given(body, _CHAT)
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("messages is a list of at least one message", param="messages")
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - {"include_usage"}:
        raise Refusal("stream_options has include_usage alone here", param="stream_options")
    counts = [_whole(given, name) for name in ("max_tokens", "max_completion_tokens")]
    limits = {each for each in counts if each is not None}
    if len(limits) > 1:
        raise Refusal("max_tokens and max_completion_tokens differ: give one", param="max_tokens")
    limit = limits.pop() if limits else None
    if limit is not None and limit < 1:
        raise Refusal(f"max_tokens is {limit}: ask for at least one token", param="max_tokens")
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) and each for each in stops):
        raise Refusal("stop is a text, or a list of texts that are not empty", param="stop")
    if len(stops) > _STOPS:
        raise Refusal(f"stop has {len(stops)} texts, and may have {_STOPS}", param="stop")
    top_p = _number(given, "top_p", 1.0, 1.0)
    if top_p == 0:
        raise Refusal("top_p is 0: give a probability above 0, or temperature 0 for greedy", param="top_p")
    return ChatBody(
        _model(given),
        [_message(each, place) for place, each in enumerate(messages)],
        _flag(given, "stream"),
        _flag(options, "include_usage"),
        tuple(stops),
        limit,
        _number(given, "temperature", 1.0, 2.0),
        top_p,
        _seed(given),
    )


def embedding_body(body: Any) -> EmbeddingBody:
    """Read the body of /v1/embeddings. Raises Refusal for what is missing, wrong or not served."""
    given = _given(body, _EMBEDDINGS)
    form = given.get("encoding_format", "float")
    if form not in ("float", "base64"):
        raise Refusal("encoding_format is float or base64", param="encoding_format")
    inputs = given.get("input")
    if isinstance(inputs, str) or _is_ids(inputs):
        inputs = [inputs]
    if isinstance(inputs, list) and inputs:
        if all(isinstance(each, str) and each for each in inputs):
            return EmbeddingBody(_model(given), inputs, form == "base64")
        if all(_is_ids(each) for each in inputs):
            return EmbeddingBody(_model(given), inputs, form == "base64")
    raise Refusal("input is a text, a list of token ids, or a list of these; none is empty", param="input")


def _given(body: Any, known: Sequence[str]) -> dict[str, Any]:
    """Return the fields that ask for something. Refuse those that are not served."""
    if not isinstance(body, dict):
        raise Refusal("the body is no JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name in known or any(value == each and _alike(value, each) for each in _NEUTRAL.get(name, ())):
            continue
        what = f"{name} other than {_NEUTRAL[name][0]}" if name in _NEUTRAL else name
        raise Refusal(f"this gateway does not serve {what}: leave it out", param=name, code="unsupported")
    return given


def _alike(left: Any, right: Any) -> bool:
    """Return whether two values are both truth values or neither is, since False equals 0."""
    return isinstance(left, bool) == isinstance(right, bool)


def _model(given: Mapping[str, Any]) -> str:
    if not isinstance(given.get("model"), str):
        raise Refusal("model is missing: /v1/models lists what is served", param="model")
    return str(given["model"])


def _message(message: Any, place: int) -> dict[str, str]:
    param = f"messages[{place}]"
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal(f"{param} has a role, which is one of {', '.join(_ROLES)}", param=param)
    extra = {name for name, value in message.items() if value is not None} - {"role", "content"}
    if extra:
        raise Refusal(f"{param} has {', '.join(sorted(extra))}: role and content are served", param=param)
    return {"role": message["role"], "content": _content(message.get("content"), param)}


def _content(content: Any, param: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict)
        and set(part) == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
        for part in content
    ):
        return "".join(part["text"] for part in content)
    raise Refusal(f"the content of {param} is a text, or parts of type text", param=param)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool | None):
        raise Refusal(f"{name} is true or false", param=name)
    return bool(value)


def _whole(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise Refusal(f"{name} is a whole number", param=name)
    return value


def _seed(given: Mapping[str, Any]) -> int | None:
    seed = _whole(given, "seed")
    if seed is not None and not 0 <= seed < 2**63:
        raise Refusal("seed is a whole number from 0 to 2^63 - 1", param="seed")
    return seed


def _number(given: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Refusal(f"{name} is a number from 0 to {most:g}", param=name)
    return float(value)


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )
