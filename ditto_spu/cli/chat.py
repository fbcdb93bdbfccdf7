"""Define `ditto chat`: a conversation with a decoder, streamed, with a line of cost after every answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.cli.options import (
    Client,
    Conversation,
    DrawSeed,
    Guesses,
    NextToken,
    OneConfig,
    Ranges,
    Temperature,
    TopK,
    TopP,
    Weights,
    room_for,
)
from ditto_spu.cluster.client.client import connect
from ditto_spu.errors import DittoError, InputError
from ditto_spu.models import Text, named_model
from ditto_spu.rules.load import load_config

_HELP = "Type a line to ask, /new to start over, /quit or Ctrl-D to end."


def chat(
    model: Annotated[
        str,
        typer.Argument(help="A checkpoint of a decoder with a chat template.", show_default=False),
    ],
    weights: Weights = None,
    system: Annotated[
        str | None, typer.Option(help="Instructions before the conversation, which nobody sees.")
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="The same as --system, but public: its cache is computed in plaintext, once, and every "
            "turn costs less."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    length: Conversation = None,
    next_token: NextToken = "client",
    top_k: TopK = 1,
    top_p: TopP = 1.0,
    temperature: Temperature = 1.0,
    seed: DrawSeed = None,
    drafts: Guesses = 0,
    calibration: Ranges = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file. The answers are then made at its parties.")
    ] = None,
    client: Client = None,
    config: OneConfig = "auto",
) -> None:
    """Talk to a decoder under MPC. The cache of the conversation stays in shares from turn to turn."""
    named, loaded = named_model(model), load_config(config)
    if named.text is None:
        raise InputError(f"'{model}' generates no text: choose a checkpoint of a decoder")
    from ditto_spu.generation.drafts import Drafts  # imports jax, for which `ditto models` need not wait
    from ditto_spu.generation.generator import Generator
    from ditto_spu.generation.sampling import Sampling

    if system is not None and prefix is not None:
        raise InputError("--system and --prefix both give instructions: leave one out")
    sampling = Sampling(top_k, temperature, seed, top_p)
    guesses = Drafts(drafts) if drafts else None
    text = named.text(weights)
    if text.tokenizer is None or text.tokenizer.template is None:
        raise InputError(
            f"'{model}' has no chat template: give a checkpoint that was trained to chat, or continue a text "
            "with `ditto generate`"
        )
    room = room_for(length, text.decoder.positions)
    opening = [] if prefix is None else text.tokenizer.opening(prefix)
    generator = Generator(
        text.decoder,
        text.params,
        length=room,
        prefix=opening or None,
        next_token=next_token,
        cluster=None if cluster is None else connect(cluster, client),
        config=loaded,
        calibration=calibration,
    )
    instructions = system if prefix is None else prefix

    def begun() -> Talk:
        return Talk(text, generator.conversation(), room, instructions, opening)

    talk = begun()
    typer.echo(_HELP, err=True)
    for line in _lines():
        if line == "/quit":
            return
        if line == "/new":
            talk = begun()
            continue
        try:
            for piece in talk.answer(line, steps, sampling=sampling, drafts=guesses):
                typer.echo(piece, nl=False)
        except DittoError as error:
            typer.echo(f"ditto: {error}", err=True)
            continue
        typer.echo()
        typer.echo(talk.cost, err=True)


class Talk:
    """The turns of a conversation so far.

    conversation: a `Conversation`, or anything with its `stream`. room: the most tokens of all turns.
    system: instructions. opening: their ids, if they are a public prefix of the conversation.
    cost: a line about the last answer.
    """

    def __init__(
        self,
        text: Text,
        conversation: Any,
        room: int,
        system: str | None = None,
        opening: Sequence[int] = (),
    ) -> None:
        self._text, self._conversation, self._room, self._opening = text, conversation, room, opening
        self._messages = [] if system is None else [{"role": "system", "content": system}]
        self.cost = ""

    def answer(self, question: str, steps: int, **options: Any) -> Iterator[str]:
        """Yield the answer as it comes, and remember both. options: those of `Conversation.stream`.

        A question that is refused is forgotten. Raises InputError where the conversation is full.
        """
        from ditto_spu.generation.text import pieces

        tokenizer = self._text.tokenizer
        assert tokenizer is not None
        asked = [*self._messages, {"role": "user", "content": question}]
        ids = tokenizer.chat_behind(self._opening, asked)
        count = len(self._opening) + len(ids)
        left = self._room - count
        if left < 1:
            raise InputError(
                f"the conversation has {count} tokens, and there is room for {self._room}: start over "
                "with /new, or give a larger --length"
            )
        started, said, tokens = time.perf_counter(), [], []
        stream = self._conversation.stream(ids, min(steps, left), stop=tokenizer.stop, **options)
        for piece in pieces(stream, tokenizer.decode, tokenizer.stop):
            if piece.token is not None:
                tokens.append(piece.token)
            said.append(piece.text)
            yield piece.text
        self._messages = [*asked, {"role": "assistant", "content": "".join(said)}]
        sent = [sum(each.report.bytes_sent_per_party) / 3e6 for each in tokens]
        rounds = sum(each.report.rounds or 0 for each in tokens)
        self.cost = (
            f"[{len(tokens)} tokens in {time.perf_counter() - started:.1f} s, the first after "
            f"{tokens[0].seconds:.1f} s; {sum(sent):,.1f} MB sent per party, {sent[0]:,.1f} MB of them for "
            f"the first; {rounds:,} rounds]"
        )


def _lines() -> Iterator[str]:
    """Yield the lines that a user types, without empty ones."""
    while True:
        typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
