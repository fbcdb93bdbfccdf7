"""Calibrate both programs of a generator on real texts, with or without a public prefix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ditto_spu.api import ConfigSource
from ditto_spu.calibration.calibration import Calibration, collect
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import Traced
from ditto_spu.generation.decoder import Decoder, check_ids, one_hot
from ditto_spu.generation.programs import (
    first_arguments,
    held_arguments,
    programs,
    secured,
    step_arguments,
)
from ditto_spu.rules.load import DEFAULT, load_config

STEPS = 1  # further tokens of each text


def calibrate_decoder(
    decoder: Decoder, params: Any, texts: Any, *, prefix: Any = None, config: ConfigSource = DEFAULT
) -> Calibration:
    """Record the values that both programs of a `Generator` take on these texts.

    The result serves every `Generator` of the decoder with this prefix, whatever its lengths. All is computed
    in plaintext, by whoever has the weights.

    texts: token ids [texts, tokens]. The last token of each goes through the program for a further token,
        and all others are its prompt.
    prefix: as in `Generator`. The values at its own tokens do not count, because no party computes them.
    config: as in `secure`. Only functions that it replaces matter.

    Raises InputError for ids that do not fit.
    """
    import jax

    ids = check_ids(texts, decoder.vocabulary)
    before = 0 if prefix is None else np.size(prefix)
    length, prompt = before + ids.shape[1], ids.shape[1] - STEPS
    if prompt < 1 or length > decoder.positions:
        raise InputError(
            f"texts of {ids.shape[1]} tokens behind a prefix of {before}: give more than {STEPS}, and at "
            f"most {decoder.positions} together"
        )
    held = held_arguments(decoder, params, prefix)
    first, step = secured(decoder, held, secret=True)
    plain = programs(decoder, secret=True, prefixed=prefix is not None)
    plain_first, plain_step = jax.jit(plain[0], static_argnames=("length",)), jax.jit(plain[1])

    def calls() -> Iterator[tuple[Traced, list[Any]]]:
        for text in ids:
            hot = one_hot(text, decoder.vocabulary)
            call = prompt_call(decoder, hot[:, :prompt], length)
            yield first.traced_batch(call)
            cache = plain_first(**held, **call)[1]
            for place in range(prompt, ids.shape[1]):
                call = token_call(decoder, cache, hot[:, place : place + 1], before + place)
                yield step.traced_batch(call)
                cache = plain_step(params=params, **call)[1]

    return collect("decoder", load_config(config), calls())


def prompt_call(decoder: Decoder, hot: Any, length: int) -> dict[str, Any]:
    """Return the arguments with which a generator runs one prompt, one-hot [1, prompt, vocabulary]."""
    return first_arguments(decoder, hot, np.array([[hot.shape[1] - 1]], np.int32), length)


def token_call(decoder: Decoder, cache: Any, hot: Any, position: int) -> dict[str, Any]:
    """Return the arguments with which a generator runs one further token, one-hot [1, 1, vocabulary]."""
    return step_arguments(decoder, cache, hot, np.array([position], np.int32), np.zeros((1, 1), np.int32))
