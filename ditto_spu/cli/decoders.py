"""Calibrate a decoder for `ditto generate`."""

from __future__ import annotations

from pathlib import Path

from ditto_spu.calibration.calibration import Calibration
from ditto_spu.cli.output import progress_console
from ditto_spu.errors import InputError
from ditto_spu.generation.ranges import calibrate_decoder
from ditto_spu.models import named_model
from ditto_spu.models.own import random_tokens
from ditto_spu.models.prose import prose_ids

LENGTH = 32  # tokens of a text


def calibrated(model: str, weights: Path | None, prefix: str | None, calls: int) -> Calibration:
    """Calibrate both programs on up to `calls` texts: prose, or random ids where there is no tokenizer.

    Raises InputError for a model that generates no text, and for a prefix where there is no tokenizer.
    """
    build = named_model(model).text
    if build is None:
        raise InputError(f"'{model}' generates no text: leave --generate out")
    text = build(weights)
    if prefix is not None and text.tokenizer is None:
        raise InputError("there is no tokenizer for --prefix: give a checkpoint with tokenizer.json")
    before = None if prefix is None or text.tokenizer is None else text.tokenizer.behind(prefix, "a")[0]
    length = min(LENGTH, text.decoder.positions - len(before or ()))
    if text.tokenizer is None:
        ids = random_tokens(text.decoder.vocabulary, calls, length)
    else:
        ids = prose_ids(text.tokenizer, length)
        ids = ids[:: max(len(ids) // calls, 1)][:calls]
    with progress_console().status(f"{model}: {len(ids)} texts in plaintext"):
        return calibrate_decoder(text.decoder, text.params, ids, prefix=before)
