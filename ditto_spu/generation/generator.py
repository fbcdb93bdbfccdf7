"""Generate text from a decoder under MPC.

The prompt runs once. Then every token takes one step over a cache that stays in shares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import ConfigSource, secure
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.errors import InputError, require_whole
from ditto_spu.generation import rooms
from ditto_spu.generation.conversation import Conversation, Outcome
from ditto_spu.generation.decoder import Decoder, check_texts
from ditto_spu.generation.drafts import Drafts
from ditto_spu.generation.generated import Generation, Token
from ditto_spu.generation.programs import first_arguments, grown, held_arguments, secured, step_arguments
from ditto_spu.generation.sampling import GREEDY, Sampling
from ditto_spu.generation.served import Client, Programs, Runs
from ditto_spu.network.model import Network
from ditto_spu.rules.load import DEFAULT

NEXT_TOKEN = ("client", "secret")


class Generator:
    """A decoder whose weights are shared once, for any number of texts.

    length: the largest room of a cache, for prefix, prompt and generated tokens together. Caches start with
        less and double, so that a step pays for the text so far.
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
    config, calibration, checked, check, seed, network: as in `secure`. `checked` and `seed` are for
        simulation alone. There `check` compares a first pass with plaintext; `checked` watches all.

    Programs are compiled at their first use: one for prompts of each size (multiples of 8 up to 64, then four
    sizes an octave), and one for a further token over a cache of each room (64, 128, 256, ...). Everybody
    knows these sizes, and the length of each text. Raises InputError for options that do not fit; `masked` is
    one of them, because the cache stays in shares between requests.
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
        network: str | Network | None = None,
    ) -> None:
        if next_token not in NEXT_TOKEN:
            raise InputError(f"next_token is '{next_token}': choose {' or '.join(NEXT_TOKEN)}")
        if masked:
            raise InputError("generation keeps its cache in shares between requests, which `masked` cannot")
        if cluster is not None and (checked or seed is not None):
            raise InputError("checked and seed are for simulation: leave them out with a cluster")
        if cluster is None and weights is not None:
            raise InputError(f"weights '{weights}' are at the parties of a cluster: give its client, too")
        if not isinstance(decoder, Decoder):
            raise InputError(f"the decoder is {decoder!r:.60}: give a Decoder (docs/generation.md)")
        require_whole(length=length)
        if not 1 <= length <= decoder.positions:
            raise InputError(f"a length of {length}, but the model holds 1 to {decoder.positions} tokens")
        self.decoder, self.length, self._secret = decoder, length, next_token == "secret"
        self.prefix = 0 if prefix is None else np.size(prefix)
        options: dict[str, Any] = {
            "config": config,
            "calibration": calibration,
            "checked": checked,
            "check": check,
            "seed": seed,
            "network": network,
        }
        held = held_arguments(decoder, params, prefix)
        self._prefill, self._step = secured(decoder, held, secret=self._secret, **options)
        self._grow = secure(grown, static_argnames=("length",), **options)
        self._keep = (1, 2) if self._secret else (1,)
        self._runs = Runs(cluster, weights)

    def upload(
        self,
        name: str,
        *,
        prompts: Sequence[int],
        turns: Sequence[int] = (),
        batch: int = 1,
        users: Sequence[str] = (),
    ) -> None:
        """Upload the parameters to the cluster under a name, once, for generators of other clients.

        They serve generators with the same options and `length` for `batch` texts at a time. Parties keep
        caches in shares, and refuse whoever wants to open one or to hand in another. A cache has all of its
        room at once then.

        prompts: the lengths of prompts.
        turns: the numbers of tokens that later turns of a conversation add.
        users: the clients that may use them besides this one.

        Raises InputError without a cluster, and ClusterError as `ClusterClient.upload` does.
        """
        if self._runs.client is None:
            raise InputError("an upload goes to a cluster: make the generator with cluster=connect(...)")
        programs = Programs(self._prefill, self._step, self._keep, self.length, self.decoder, self.prefix)
        programs.upload(self._runs.client, name, prompts, turns, batch, users)

    @property
    def opens_logits(self) -> bool:
        """Whether the client sees the logits and chooses the tokens."""
        return not self._secret

    def conversation(self) -> Conversation:
        """Return a text whose cache is kept, so that its next turn pays for what is new alone."""
        return Conversation(self)

    def room(self, places: int) -> int:
        """Return the size of a cache for so many places."""
        grows = self.decoder.ragged and self._runs.weights is None
        return rooms.room(places, self.length) if grows else self.length

    def stream(
        self,
        ids: Any,
        steps: int,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
        drafts: Drafts | None = None,
    ) -> Iterator[Token]:
        """Yield up to `steps` tokens after the prompts `ids`, as they come.

        ids: [batch, prompt], [prompt], or a list of prompts of unequal lengths.
        drafts: how to guess tokens, several of which one pass then verifies. The text is the same without.

        The stream ends early once every text of the batch has produced a token of `stop`, which comes last.
        Bad input raises an InputError at the call, before anything runs.
        """
        return self.conversation().stream(ids, steps, sampling, stop, drafts)

    def generate(
        self,
        ids: Any,
        steps: int,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
        drafts: Drafts | None = None,
    ) -> Generation:
        """Run `stream` to its end and return all tokens."""
        return Generation.of(ids, list(self.stream(ids, steps, sampling, stop, drafts)))

    def first(self, hot: Any, rows: NDArray[np.int32], length: int) -> Outcome:
        """Run texts [batch, tokens, vocabulary] from their beginning, into a cache of `length` places.

        rows: which tokens' logits are wanted [batch, wanted].
        """
        arguments = first_arguments(self.decoder, hot, rows, length)
        return self._outcome(self._runs.run(self._prefill, self._keep, **arguments))

    def further(self, cache: Any, hot: Any, position: NDArray[np.int32], rows: NDArray[np.int32]) -> Outcome:
        """Run tokens behind those of a cache. The first of each text stands at `position` [batch]."""
        arguments = step_arguments(self.decoder, cache, hot, position, rows)
        return self._outcome(self._runs.run(self._step, self._keep, **arguments))

    def grown(self, cache: Any, length: int) -> Any:
        """Return a cache with room for `length` places. The parties send nothing for it."""
        return self._runs.run(self._grow, (0,), caches=(cache,), length=length).outputs[0]

    def _outcome(self, result: Any) -> Outcome:
        if self._secret:
            ids, cache, hot = result.outputs
            return Outcome(None, np.rint(ids).astype(np.int64).reshape(-1), hot, cache, result.report)
        logits, cache = result.outputs
        if logits.shape[-1] != self.decoder.vocabulary:
            raise InputError(
                f"the decoder returns logits {list(logits.shape)}, but its vocabulary has "
                f"{self.decoder.vocabulary} tokens: give it weights of its own shape"
            )
        return Outcome(
            np.reshape(logits, (len(logits), -1, self.decoder.vocabulary)), None, None, cache, result.report
        )


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
    network: str | Network | None = None,
) -> Generation:
    """Generate `steps` tokens after the prompts `ids` [batch, prompt], or a list of unequal ones.

    length: room of the cache; as much as it takes, if left out. The other options are those of `Generator`,
    which serves many texts with one compilation and one sharing of the weights.
    """
    longest = max(map(len, check_texts(ids, model.vocabulary)))
    generator = Generator(
        model,
        params,
        length=np.size(prefix) * (prefix is not None) + longest + steps if length is None else length,
        prefix=prefix,
        next_token=next_token,
        config=config,
        calibration=calibration,
        masked=masked,
        checked=checked,
        check=check,
        seed=seed,
        network=network,
    )
    return generator.generate(ids, steps, sampling, stop)
