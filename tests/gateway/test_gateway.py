"""The public client of OpenAI talks to the gateway: answers equal plaintext, and refusals are clear."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openai
import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import models, pre_tokenizers

import ditto_spu as ditto
from ditto_spu.checkpoints.tokenizer import Tokenizer
from ditto_spu.errors import InputError, RangeError
from ditto_spu.gateway.answerer import Answerer
from ditto_spu.gateway.app import Gateway, app
from ditto_spu.gateway.embedder import embedder
from ditto_spu.gateway.serve import LOOPBACK, listen, server
from ditto_spu.models.loaded import LoadedModel
from tests.checkpoints.files import TEMPLATE, TOKENS
from tests.cluster.conftest import Trial
from tests.generation import toy

ROOM = 120
HELLO = [{"role": "user", "content": "hello"}]


def tokenizer() -> Tokenizer:
    """Return a tokenizer of letters with a chat template."""
    words = [*TOKENS, *"ABCDEFGHIJ"][: toy.WORDS]
    inner = Inner(models.BPE({word: place for place, word in enumerate(words)}, []))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.add_special_tokens(words[:3])
    return Tokenizer(inner, TEMPLATE.replace("'\\n' + ", ""), {}, frozenset([2]), 0)


def table() -> np.ndarray:
    """Return weights under which tokens vary, and the stop token and special ones are rare."""
    made = toy.table()
    made[:, :3] = -8
    return made


@contextmanager
def serving(model: Any) -> Iterator[int]:
    listening = listen(0)
    running = server(app(Gateway("toy", model)))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def asking(port: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{LOOPBACK}:{port}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    generator = ditto.Generator(toy.decoder(), table(), length=ROOM)
    with serving(Answerer(generator, tokenizer())) as found:
        yield found


@pytest.fixture(scope="module")
def client(port: int) -> openai.OpenAI:
    return asking(port)


def expected(messages: list[dict[str, str]], steps: int) -> str:
    known = tokenizer()
    return known.decode(toy.greedy(table(), known.chat(messages), steps))


def test_an_answer_whole_and_streamed_is_that_of_plaintext(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "toy", "messages": HELLO, "max_tokens": 6, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    text = expected(HELLO, 6)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (text, "length")
    assert whole.usage is not None
    prompt = len(tokenizer().chat(HELLO))
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (prompt, 6)
    events = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    parts = [each.choices[0].delta.content or "" for each in events if each.choices]
    assert "".join(parts) == text and len([each for each in parts if each]) > 3
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-2].choices[0].finish_reason == "length"
    assert events[-1].usage is not None and events[-1].usage.total_tokens == prompt + 6
    # The next turn repeats the first, and a stop text ends it.
    turns = [*HELLO, {"role": "assistant", "content": text}, {"role": "user", "content": "more"}]
    further = expected(turns, 6)
    stopped = client.chat.completions.create(**asked | {"messages": turns, "stop": [further[3:5], "?"]})
    assert stopped.choices[0].message.content == further[: further.find(further[3:5])]
    assert stopped.choices[0].finish_reason == "stop"


def test_a_seed_repeats_a_draw_and_parts_of_content_join(client: openai.OpenAI) -> None:
    def answer(seed: int, **more: Any) -> str | None:
        parts: Any = [
            {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}
        ]
        made = client.chat.completions.create(
            model="toy", messages=parts, max_completion_tokens=6, seed=seed, n=1, user="me", **more
        )
        return made.choices[0].message.content

    assert answer(1, temperature=2, presence_penalty=0) == answer(1, temperature=2)
    assert len({answer(seed, temperature=2) for seed in range(4)}) > 1
    assert answer(3, top_p=1e-9) == expected(HELLO, 6)


def test_two_answers_at_once_and_one_that_is_left(client: openai.OpenAI) -> None:
    def stream(text: str) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return client.chat.completions.create(
            model="toy", messages=messages, temperature=0, max_tokens=8, stream=True
        )

    streams = {text: stream(text) for text in ("a", "bad", "left")}
    next(streams["left"])
    streams.pop("left").close()
    found = dict.fromkeys(streams, "")
    while streams:
        for text, each in list(streams.items()):
            event = next(each, None)
            if event is None:
                streams.pop(text)
            elif event.choices:
                found[text] += event.choices[0].delta.content or ""
    for text, answer in found.items():
        assert answer == expected([{"role": "user", "content": text}], 8)


def user(content: Any, **more: str) -> dict[str, Any]:
    return {"role": "user", "content": content} | more


def test_a_public_prefix_stands_before_all_messages() -> None:
    known, system = tokenizer(), {"role": "system", "content": "be kind"}
    made = ditto.Generator(toy.decoder(), table(), length=ROOM, prefix=known.opening("be kind"))
    with serving(Answerer(made, known, prefix="be kind")) as port:
        for messages in (HELLO, [system, *HELLO]):
            asked: Any = {"model": "toy", "messages": messages, "max_tokens": 4, "temperature": 0}
            answer = asking(port).chat.completions.create(**asked)
            assert answer.choices[0].message.content == expected([system, *HELLO], 4)
        with pytest.raises(openai.BadRequestError, match="is public and fixed: leave yours out"):
            asked["messages"] = [system | {"content": "be rude"}, *HELLO]
            asking(port).chat.completions.create(**asked)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").id == "toy"
    with pytest.raises(openai.NotFoundError, match="no model 'other': this gateway serves 'toy'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"n": 2}, "does not serve n other than 1", "n"),
        ({"logprobs": True}, "does not serve logprobs other than False", "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "does not serve tools", "tools"),
        ({"extra_body": {"top_k": 5}}, "does not serve top_k", "top_k"),
        ({"response_format": {"type": "json_object"}}, "does not serve response_format", "response_format"),
        ({"presence_penalty": 0.5}, "does not serve presence_penalty other than 0", "presence_penalty"),
        ({"temperature": 2.5}, "temperature is a number from 0 to 2", "temperature"),
        ({"top_p": 0}, "top_p is 0", "top_p"),
        ({"max_tokens": 0}, "max_tokens is 0: ask for at least one", "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "differ: give one", "max_tokens"),
        ({"stop": ["a"] * 5}, "stop has 5 texts, and may have 4", "stop"),
        ({"stop": ""}, "stop is a text, or a list of texts that are not empty", "stop"),
        ({"seed": 1.5}, "seed is a whole number", "seed"),
        ({"messages": []}, "at least one message", "messages"),
        ({"messages": [user("a", role="tool")]}, "has a role, which is one of system", "messages[0]"),
        ({"messages": [user([{"type": "image_url"}])]}, "parts of type text", "messages[0]"),
        ({"messages": [user("a", name="x")]}, "has name: role and content", "messages[0]"),
        ({"messages": [user("a" * 200)]}, "there is room for 120", "messages"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_a_400_with_its_field(
    client: openai.OpenAI, change: dict[str, Any], message: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message.replace("[", r"\[")) as failed:
        client.chat.completions.create(**{"model": "toy", "messages": HELLO, "stream": True} | change)
    assert failed.value.type == "invalid_request_error" and failed.value.param == param


def test_a_language_model_has_no_embeddings(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="answers chats and has no embeddings"):
        client.embeddings.create(model="toy", input="a")


def raw(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): each for name, each in headers.items()})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_other_hosts_types_and_paths_are_refused(port: int) -> None:
    json_type = {"Content_Type": "application/json"}
    chat = "/v1/chat/completions"
    assert raw(port, "GET", "/v1/models")[0] == 200
    for status, asked in (
        (403, raw(port, "GET", "/v1/models", Host="evil.example:80")),
        (415, raw(port, "POST", chat, b"{}", Content_Type="text/plain")),
        (400, raw(port, "POST", chat, b"{", **json_type)),
        (400, raw(port, "POST", chat, b"[]", **json_type)),
        (400, raw(port, "POST", chat, b"[" * 200_000, **json_type)),
        (400, raw(port, "POST", chat, b'{"model": "\\ud800", "messages": []}', **json_type)),
        (413, raw(port, "POST", chat, b"[" * 4_000_001, **json_type)),
        (404, raw(port, "GET", "/v1/files")),
        (404, raw(port, "GET", chat)),
    ):
        assert asked[0] == status and set(asked[1]["error"]) == {"message", "type", "param", "code"}


def test_a_failure_in_the_midst_of_a_stream_reaches_the_caller() -> None:
    class Failing:
        length = ROOM
        covered = ()

        def conversation(self) -> Any:
            return self

        def stream(self, *_: Any) -> Iterator[Any]:
            report = SimpleNamespace(rows=())
            yield SimpleNamespace(ids=np.array([4]), report=report)
            raise RangeError("a product leaves its range: declare it")

        def common(self, _: Any) -> int:
            return 0

    with serving(Answerer(Failing(), tokenizer())) as port:
        asked: Any = {"model": "toy", "messages": HELLO}
        stream = asking(port).chat.completions.create(**asked, stream=True)
        with pytest.raises(openai.APIError, match="a product leaves its range"):
            list(stream)
        with pytest.raises(openai.UnprocessableEntityError, match="a product leaves its range"):
            asking(port).chat.completions.create(**asked)


def embedding_model(folder: Path) -> LoadedModel:
    """Return a model whose embedding of a text is the mean of rows of a table."""

    def embed(params: Any, ids: Any, mask: Any) -> Any:
        import jax.numpy as jnp

        words = mask[..., None].astype(jnp.float32)
        return jnp.sum(params[ids] * words, axis=1) / jnp.sum(words, axis=1)

    config = SimpleNamespace(positions=20, vocabulary=toy.WORDS, first=None)
    model = LoadedModel("toy", embed, "embedding", toy.table(), config, None, folder)
    object.__setattr__(model, "tokenizer", tokenizer())
    return model


@pytest.mark.parametrize("on_cluster", [False, True])
def test_embeddings_are_those_of_plaintext(tmp_path: Path, on_cluster: bool) -> None:
    with ExitStack() as stack:
        cluster = None
        if on_cluster:
            trial = Trial(tmp_path / "cluster")
            stack.callback(trial.stop)
            trial.serve()
            cluster = stack.enter_context(ditto.connect(trial.file, "alice"))
        port = stack.enter_context(serving(embedder(embedding_model(tmp_path), cluster)))
        client, known = asking(port), tokenizer()
        texts = ["abc", "a long sentence"]
        ids = [known.encode(each) for each in texts]
        found = client.embeddings.create(model="toy", input=texts)  # the client asks for base64
        answers = [found]
        if not on_cluster:
            answers.append(client.embeddings.create(model="toy", input=texts, encoding_format="float"))
            answers.append(client.embeddings.create(model="toy", input=ids))
        for vectors in answers:
            for row, each in zip(ids, vectors.data, strict=True):
                np.testing.assert_allclose(each.embedding, toy.table()[row].mean(axis=0), atol=1e-3)
        assert found.usage.total_tokens == sum(map(len, ids))


def test_embeddings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with serving(embedder(embedding_model(tmp_path), None)) as port:
        client = asking(port)
        for bad, message in (
            ("b" * 21, "input 0 has 21 tokens, and the model holds 20"),
            ("", "input is a text"),
            ([[1], []], "input is a text"),
            ([[50]], "ids outside of 0 to 49"),
        ):
            with pytest.raises(openai.BadRequestError, match=message):
                client.embeddings.create(model="toy", input=bad)  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError, match="does not serve dimensions"):
            client.embeddings.create(model="toy", input="a", dimensions=3)
        with pytest.raises(openai.BadRequestError, match="embeds texts and answers no chats"):
            client.chat.completions.create(model="toy", messages=HELLO)  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_named() -> None:
    taken = listen(0)
    with pytest.raises(InputError, match="cannot be had"):
        listen(taken.getsockname()[1])
    assert taken.getsockname()[0] == "127.0.0.1"
    taken.close()
