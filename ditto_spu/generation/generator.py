"""Generate text from a decoder under MPC.

The prompt runs once. Then every token takes one step over a cache that stays in shares.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ditto_spu.api import ConfigSource, secure
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder, check_ids, one_hot
from ditto_spu.generation.programs import prefix_cache, programs
from ditto_spu.generation.sampling import GREEDY, Sampling
from ditto_spu.generation.served import Client, Programs, Runs
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.printed import printed
from ditto_spu.rules.load import DEFAULT

NEXT_TOKEN = ("client", "secret")


@dataclass(frozen=True)
class Token:
    """One generated token of every text of the batch, and its cost."""

    position: int  # with the prefix, if there is one
    ids: NDArray[np.int64]  # [batch]
    report: CostReport
    seconds: float  # at the client, including sharing and reconstruction


@dataclass(frozen=True)
class Generation:
    """Prompt and generated tokens, and the cost of each token. Rich prints it as a table."""

    ids: NDArray[np.int64]  # [batch, prompt + tokens]
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, prompt: Any, tokens: Sequence[Token]) -> Generation:
        """Join a prompt [batch, prompt] and the tokens that `Generator.stream` gave for it."""
        start = np.atleast_2d(np.asarray(prompt, np.int64))
        return cls(np.concatenate([start, *(each.ids[:, None] for each in tokens)], axis=1), tuple(tokens))

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one row of plain data per token."""
        return [
            {
                "position": each.position,
                "ids": each.ids.tolist(),
                "seconds": each.seconds,
                "party_seconds": each.report.seconds,
                "bytes_sent_per_party": each.report.bytes_sent_per_party,
                "rounds": each.report.rounds,
            }
            for each in self.tokens
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table("position", "ids", "seconds", "parties' seconds", "MB sent per party", "rounds")
        for row in self.as_dicts():
            table.add_row(
                str(row["position"]),
                " ".join(map(str, row["ids"])),
                f"{row['seconds']:.3f}",
                f"{row['party_seconds']:.3f}",
                f"{sum(row['bytes_sent_per_party']) / 3e6:.2f}",
                str(row["rounds"]),
            )
        yield table

    def __str__(self) -> str:
        return printed(self)


class Generator:
    """A decoder whose weights are shared once, for any number of texts of one prompt length.

    length: room of the cache, for prefix, prompt and generated tokens together.
    prefix: token ids [tokens] that everybody may know and that stand before every text, such as a system
        prompt. Their keys and values are computed here in plaintext, once, and held as shares beside the
        weights. Positions count from the first token of the prefix.
    next_token: "client" opens the logits to the client, who chooses the token (greedy or top-k). "secret"
        chooses the likeliest token in MPC, so that the logits stay secret and the client learns the ids
        alone. The parties learn neither logits nor ids.
    cluster: a client of a cluster (`ditto_spu.connect`), at whose parties everything runs. Without it,
        everything is simulated. Caches stay in the client's session, and are lost with it.
    weights: the name under which their owner has uploaded the parameters there (`upload`). `params` are then
        shapes. Without it, they are uploaded at the first request and stay for the session.
    config, calibration, checked, check, seed: as in `secure`. `checked` and `seed` are for simulation alone.

    Two programs are compiled, one for the prompt and one for a further token, each at its first use. Raises
    InputError for options that do not fit; `masked` is one of them, because the cache stays in shares between
    requests.
    """

    def __init__(
        self,
        decoder: Decoder,
        params: Any,
        *,
        length: int,
        prefix: Any = None,
        next_token: str = "client",
        cluster: Client | None = None,
        weights: str | None = None,
        config: ConfigSource = DEFAULT,
        calibration: Calibration | str | Path | None = None,
        masked: bool = False,
        checked: bool = False,
        check: bool = True,
        seed: int | None = None,
    ) -> None:
        if next_token not in NEXT_TOKEN:
            raise InputError(f"next_token is '{next_token}': choose {' or '.join(NEXT_TOKEN)}")
        if masked:
            raise InputError("generation keeps its cache in shares between requests, which `masked` cannot")
        if cluster is not None and (checked or seed is not None):
            raise InputError("checked and seed are for simulation: leave them out with a cluster")
        if cluster is None and weights is not None:
            raise InputError(f"weights '{weights}' are at the parties of a cluster: give its client, too")
        if not 1 <= length <= decoder.positions:
            raise InputError(f"a length of {length}, but the model holds 1 to {decoder.positions} tokens")
        self.decoder, self.length, self._secret = decoder, length, next_token == "secret"
        held = {"params": params}
        if prefix is not None:
            held["prefix"] = prefix_cache(decoder, params, prefix)
        self.prefix = 0 if prefix is None else np.size(prefix)
        prefill, step = programs(decoder, secret=self._secret, prefixed=prefix is not None)
        options: dict[str, Any] = {
            "config": config,
            "calibration": calibration,
            "checked": checked,
            "check": check,
            "seed": seed,
        }
        self._prefill = secure(prefill, static_argnames=("length",), **options).hold(**held)
        self._step = secure(step, public=("position",), **options).hold_with(self._prefill, "params")
        self._keep = (1, 2) if self._secret else (1,)
        self._runs = Runs(cluster, weights)

    def upload(self, name: str, *, prompts: Sequence[int], batch: int = 1, users: Sequence[str] = ()) -> None:
        """Upload the parameters to the cluster under a name, once, for generators of other clients.

        They serve generators with the same options and `length` for `batch` texts at a time. Parties keep
        caches in shares, and refuse whoever wants to open one or to hand in another.

        prompts: the lengths of prompts.
        users: the clients that may use them besides this one.

        Raises InputError without a cluster, and ClusterError as `ClusterClient.upload` does.
        """
        if self._runs.client is None:
            raise InputError("an upload goes to a cluster: make the generator with cluster=connect(...)")
        programs = Programs(self._prefill, self._step, self._keep, self.length, self.decoder.vocabulary)
        programs.upload(self._runs.client, name, prompts, batch, users)

    def stream(
        self, ids: Any, steps: int, sampling: Sampling = GREEDY, stop: Collection[int] = ()
    ) -> Iterator[Token]:
        """Yield up to `steps` tokens after the prompts `ids` [batch, prompt] (or [prompt]), as they come.

        The stream ends early once every text of the batch has produced a token of `stop`, which comes last.
        Bad input raises an InputError at the call, before anything runs.
        """
        prompt = check_ids(ids, self.decoder.vocabulary)
        if steps < 1:
            raise InputError(f"steps is {steps}: generate at least one token")
        if self.prefix + prompt.shape[1] + steps > self.length:
            before = f"{self.prefix} tokens of prefix, " if self.prefix else ""
            raise InputError(
                f"{before}{prompt.shape[1]} tokens of prompt and {steps} steps, but the cache has room for "
                f"{self.length}: ask for fewer steps, or make the generator with a larger `length`"
            )
        if self._secret and sampling.top_k > 1:
            raise InputError(
                "with next_token='secret' the likeliest token is taken: top_k needs next_token='client'"
            )
        return self._tokens(prompt, steps, sampling, frozenset(stop))

    def _tokens(
        self, prompt: NDArray[np.int64], steps: int, sampling: Sampling, stop: frozenset[int]
    ) -> Iterator[Token]:
        rng, place = sampling.generator(), self.prefix + prompt.shape[1]
        stopped = np.zeros(len(prompt), bool)
        hot: Any = one_hot(prompt, self.decoder.vocabulary)
        cache: Any = None
        for position in range(place, place + steps):
            started = time.perf_counter()
            if cache is None:
                result = self._runs.run(self._prefill, self._keep, one_hot=hot, length=self.length)
            else:
                at = np.int32(position - 1)
                result = self._runs.run(self._step, self._keep, cache=cache, one_hot=hot, position=at)
            if self._secret:
                chosen, cache, hot = result.outputs
                ids = np.rint(chosen).astype(np.int64)
            else:
                logits, cache = result.outputs
                ids = sampling.choose(logits, rng)
                hot = one_hot(ids[:, None], self.decoder.vocabulary)
            yield Token(position, ids, result.report, time.perf_counter() - started)
            stopped |= np.isin(ids, list(stop))
            if stopped.all():
                return

    def generate(
        self, ids: Any, steps: int, sampling: Sampling = GREEDY, stop: Collection[int] = ()
    ) -> Generation:
        """Run `stream` to its end and return all tokens."""
        return Generation.of(ids, list(self.stream(ids, steps, sampling, stop)))


def generate(
    model: Decoder,
    params: Any,
    ids: Any,
    *,
    steps: int,
    sampling: Sampling = GREEDY,
    stop: Collection[int] = (),
    length: int | None = None,
    prefix: Any = None,
    next_token: str = "client",
    config: ConfigSource = DEFAULT,
    calibration: Calibration | str | Path | None = None,
    masked: bool = False,
    checked: bool = False,
    check: bool = True,
    seed: int | None = None,
) -> Generation:
    """Generate `steps` tokens after the prompts `ids` [batch, prompt].

    length: room of the cache; as much as it takes, if left out. The other options are those of `Generator`,
    which serves many texts with one compilation and one sharing of the weights.
    """
    prompt = check_ids(ids, model.vocabulary)
    generator = Generator(
        model,
        params,
        length=np.size(prefix) * (prefix is not None) + prompt.shape[1] + steps if length is None else length,
        prefix=prefix,
        next_token=next_token,
        config=config,
        calibration=calibration,
        masked=masked,
        checked=checked,
        check=check,
        seed=seed,
    )
    return generator.generate(prompt, steps, sampling, stop)
