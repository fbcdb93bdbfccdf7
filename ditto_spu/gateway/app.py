"""Answer requests over HTTP: which paths there are, who may ask, and whose turn it is."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ditto_spu.gateway import replies
from ditto_spu.gateway.answerer import Answerer
from ditto_spu.gateway.bodies import ChatBody, chat_body, embedding_body
from ditto_spu.gateway.embedder import Embedder
from ditto_spu.gateway.refusals import Refusal, refusal
from ditto_spu.generation.text import Piece

log = logging.getLogger("ditto_spu.gateway")
_HOSTS = ("127.0.0.1", "localhost")  # another name in a request means that a web page was led here
_LARGEST = 4_000_000  # bytes of a body
Answering = Generator[Piece, None, None]


class Gateway:
    """The handlers for one model, which answers chats or embeds texts.

    One pass or embedding runs at a time. Requests take turns after each of them, so that a long answer does
    not hold up the others.
    """

    def __init__(self, name: str, model: Answerer | Embedder) -> None:
        self._name, self._model, self._turn = name, model, anyio.Lock()

    async def models(self, _: Request) -> Response:
        """List the model."""
        return JSONResponse({"object": "list", "data": [replies.listed(self._name)]})

    async def model(self, request: Request) -> Response:
        """Describe the model."""
        self._require(request.path_params["name"])
        return JSONResponse(replies.listed(self._name))

    async def embeddings(self, request: Request) -> Response:
        """Embed texts."""
        body = embedding_body(await _json(request))
        self._require(body.model)
        if not isinstance(self._model, Embedder):
            raise Refusal(f"model {self._name} answers chats and has no embeddings", param="model")
        ids = await anyio.to_thread.run_sync(self._model.ids, body.inputs)
        vectors = []
        for each in ids:
            async with self._turn:
                vectors.append(await anyio.to_thread.run_sync(self._model.embed, each))
        return JSONResponse(replies.embeddings(self._name, vectors, sum(map(len, ids)), body.base64))

    async def chat(self, request: Request) -> Response:
        """Answer a conversation, in one reply or as a stream."""
        body = chat_body(await _json(request))
        self._require(body.model)
        if not isinstance(self._model, Answerer):
            raise Refusal(f"model {self._name} embeds texts and answers no chats", param="model")
        ids = await anyio.to_thread.run_sync(self._model.ids, body)  # long texts take seconds
        answer = self._model.answer(ids, body)
        if body.stream:
            # The first piece is made before the reply begins, so that what is refused then has its status.
            first = await self._next(answer)
            events = self._events(first, answer, body, len(ids))
            return StreamingResponse(events, media_type="text/event-stream")
        text, finish, count = "", None, 0
        try:
            while (piece := await self._next(answer)) is not None:
                if await request.is_disconnected():
                    break
                text, finish, count = text + piece.text, piece.finish, count + (piece.token is not None)
        finally:
            answer.close()
        used = replies.usage(len(ids), count)
        return JSONResponse(replies.Answer(self._name).whole(text, finish, used))

    async def _events(
        self, piece: Piece | None, answer: Answering, body: ChatBody, prompt: int
    ) -> AsyncIterator[str]:
        reply, count = replies.Answer(self._name), 0
        try:
            yield reply.event({"role": "assistant", "content": ""})
            while piece is not None:
                count += piece.token is not None
                if piece.text:
                    yield reply.event({"content": piece.text})
                if piece.finish is not None:
                    yield reply.event({}, piece.finish)
                piece = await self._next(answer)
            if body.usage:
                yield reply.last(replies.usage(prompt, count))
            yield replies.END
        except Exception as error:
            yield replies.event(_reported(error).body)
        finally:
            answer.close()

    async def _next(self, answer: Answering) -> Piece | None:
        """Return the next piece, which a thread makes when it is this answer's turn, or None at the end."""
        async with self._turn:
            return await anyio.to_thread.run_sync(next, answer, None)

    def _require(self, name: str) -> None:
        if name != self._name:
            raise Refusal(
                f"there is no model '{name}': this gateway serves '{self._name}'",
                status=404,
                param="model",
                code="model_not_found",
            )


def app(gateway: Gateway) -> Starlette:
    """Return the application of the gateway."""

    def route(path: str, handler: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        async def handled(request: Request) -> Response:
            try:
                _require_loopback(request)
                return await handler(request)
            except ClientDisconnect:
                return Response()  # which nobody reads
            except Exception as error:
                told = _reported(error)
                return JSONResponse(told.body, told.status)

        return Route(path, handled, methods=[method])

    async def unknown(request: Request, _: Exception) -> Response:
        told = Refusal(f"{request.method} {request.url.path} is not served here", status=404)
        return JSONResponse(told.body, told.status)

    routes = [
        route("/v1/models", gateway.models, "GET"),
        route("/v1/models/{name:path}", gateway.model, "GET"),
        route("/v1/embeddings", gateway.embeddings, "POST"),
        route("/v1/chat/completions", gateway.chat, "POST"),
    ]
    return Starlette(routes=routes, exception_handlers={404: unknown, 405: unknown})


def _reported(error: Exception) -> Refusal:
    """Return what the caller is told. Errors of ours and others that end a request are logged."""
    told = refusal(error)
    if told.status >= 500:
        log.error("request failed", exc_info=error)
    return told


def _require_loopback(request: Request) -> None:
    host = request.headers.get("host", "").rsplit(":", 1)[0]
    if host not in _HOSTS:
        raise Refusal(f"this gateway answers at {' and '.join(_HOSTS)} alone", status=403)


async def _json(request: Request) -> Any:
    """Return the body. A page in a browser cannot send this type elsewhere without being allowed to."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise Refusal("the body has to be of type application/json", status=415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise Refusal(f"the body has more than {_LARGEST:,} bytes", status=413)
    try:
        found = json.loads(body)
        # Halves of characters, which JSON can write, are no text that could be tokenized or answered.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal("the body is no JSON of whole characters, or it is nested too deep") from None
    return found
