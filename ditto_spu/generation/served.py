"""Generate at the parties of a cluster: where programs run, and what an owner of weights uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import Call, Result, SecureFunction
from ditto_spu.errors import InputError
from ditto_spu.frontend.kept_arguments import Keep
from ditto_spu.generation import rooms
from ditto_spu.generation.decoder import Decoder
from ditto_spu.generation.programs import first_arguments, step_arguments

_STEPS = 4  # until the format of a cache is that of the step before; one or two in all known models


class Client(Protocol):
    """What generation needs of a cluster's client (`ditto_spu.connect`)."""

    def run(
        self, function: SecureFunction, *args: Any, weights: str | None = ..., keep: Keep = ..., **kwargs: Any
    ) -> Result:
        """Run a function at the parties."""

    def upload(
        self,
        function: SecureFunction,
        *args: Any,
        name: str,
        users: Sequence[str] = ...,
        add: bool = ...,
        keep: Keep = ...,
        **kwargs: Any,
    ) -> Call:
        """Upload what a function holds, under a name."""


@dataclass(frozen=True)
class Runs:
    """Where programs of a decoder run.

    client: runs them at the parties of a cluster. None simulates them.
    weights: the name under which an owner has uploaded the parameters, or None.
    """

    client: Client | None = None
    weights: str | None = None

    def run(self, function: SecureFunction, keep: Keep, **arguments: Any) -> Result:
        """Run a function and keep outputs in shares."""
        if self.client is None:
            return function.run(keep=keep, **arguments)
        return self.client.run(function, weights=self.weights, keep=keep, **arguments)


@dataclass(frozen=True)
class Programs:
    """The two programs of a decoder, and the outputs that stay in shares.

    prefill, step: with the parameters held.
    keep: places of their outputs. The first is the cache, the second a token chosen in secret.
    length: the room of the cache.
    prefix: the number of tokens of the public prefix.
    """

    prefill: SecureFunction
    step: SecureFunction
    keep: tuple[int, ...]
    length: int
    decoder: Decoder
    prefix: int

    def upload(
        self,
        client: Client,
        name: str,
        prompts: Sequence[int],
        turns: Sequence[int],
        batch: int,
        users: Sequence[str],
    ) -> None:
        """Upload the parameters, for prompts and turns of these lengths. One upload serves all programs.

        Whoever uses them cannot open the cache, nor hand in another one.

        Raises InputError if there is no length, and errors as `ClusterClient.upload` does.
        """
        if not prompts:
            raise InputError("give the lengths of prompts that the weights are to serve: prompts=(32,)")
        known: set[str] = set()
        for prompt in prompts:
            given = first_arguments(self.decoder, self._hot(batch, prompt), _first_row(batch), self.length)
            add = bool(known)
            call = client.upload(
                self.prefill, name=name, users=() if add else users, add=add, keep=self.keep, **given
            )
            known.add(call.lowered.plan.hash())
            for _ in range(_STEPS):
                further = self._further(call, batch)
                plan = self.step.call(**further).lowered.plan.hash()
                if plan in known:
                    break
                call = client.upload(self.step, name=name, add=True, keep=self.keep, **further)
                known.add(call.lowered.plan.hash())
            for turn in turns:
                # The client gives the tokens of a turn, also where the parties choose those of an answer.
                later = self._further(call, batch) | {"one_hot": self._hot(batch, turn)}
                plan = self.step.call(**later).lowered.plan.hash()
                if plan not in known:
                    client.upload(self.step, name=name, add=True, keep=self.keep, **later)
                    known.add(plan)

    def _further(self, call: Call, batch: int) -> dict[str, Any]:
        """Return the arguments of the step after a call: handles of what stays, and shapes."""
        outputs = call.described(self.keep)
        hot = outputs[self.keep[1]] if len(self.keep) > 1 else self._hot(batch, 1)
        start = np.zeros(batch, np.int32)
        return step_arguments(self.decoder, outputs[self.keep[0]], hot, start, _first_row(batch))

    def _hot(self, batch: int, tokens: int) -> jax.ShapeDtypeStruct:
        """Return the shape of tokens as a generator pads them."""
        if self.decoder.ragged:
            tokens = rooms.tokens(tokens, self.length - self.prefix)
        return jax.ShapeDtypeStruct((batch, tokens, self.decoder.vocabulary), np.float32)


def _first_row(batch: int) -> NDArray[np.int32]:
    return np.zeros((batch, 1), np.int32)
