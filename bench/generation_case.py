"""Measure generation: the cost of the first and of further tokens, and how often tokens agree with float.

`gpt2-token` runs a prompt of 32 tokens and then steps over the cache. It reports seconds and bytes.
`gpt2-agreement` compares the likeliest next token of many prompts with that of float. Prompts for which
float's two likeliest tokens are further apart than a margin are also counted apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ditto_spu.api import secure
from ditto_spu.generation.decoder import one_hot
from ditto_spu.generation.generated import Token
from ditto_spu.generation.generator import Generator
from ditto_spu.models import Text, named_model

CASES = ("gpt2-token", "gpt2-agreement")
STEPS = 5  # the first also compiles if nothing ran before
PROMPTS = 64
MARGIN = 0.05


def rows(
    case: str, config: str, repeat: int, say: Callable[[str], None], small: bool
) -> list[dict[str, Any]]:
    """Return one row per way to choose the next token, or one row of agreement. `small` takes gpt2-tiny."""
    named = named_model("gpt2-tiny" if small else "gpt2")
    assert named.text is not None
    text = named.text(None)
    if case == "gpt2-agreement":
        return [{"case": case, "config": config, **_agreement(text, config, say)}]
    return [
        {"case": case, "config": config, "next_token": mode, **_token(text, config, mode, repeat, say)}
        for mode in ("client", "secret")
    ]


def _token(text: Text, config: str, mode: str, repeat: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return medians over `repeat` texts of the first token and of all further ones. One text warms up."""
    length = text.prompt.shape[1] + STEPS
    generator = Generator(
        text.decoder, text.params, length=length, next_token=mode, config=config, check=False
    )
    firsts, furthers = [], []
    for turn in range(repeat + 1):
        timed = list(_timed(generator.stream(text.prompt, STEPS)))
        say(f"{mode}: text {turn} of {repeat}: {timed[0][0].report.seconds:.2f} s, then "
            f"{timed[-1][0].report.seconds:.3f} s a token")  # fmt: skip
        if turn:
            firsts.append(timed[0])
            furthers += timed[1:]
    first, further = _medians(firsts), _medians(furthers)
    ratios = {key: further[key] / first[key] for key in ("seconds", "cpu_seconds", "bytes")}
    return {"first": first, "further": further, "further_over_first": ratios}


def _timed(tokens: Iterator[Token]) -> Iterator[tuple[Token, float]]:
    """Yield each token with the processor seconds that it took."""
    before = time.process_time()
    for token in tokens:
        yield token, time.process_time() - before
        before = time.process_time()


def _medians(timed: list[tuple[Token, float]]) -> dict[str, Any]:
    reports = [token.report for token, _ in timed]
    return {
        "seconds": statistics.median(each.seconds for each in reports),
        "cpu_seconds": statistics.median(cpu for _, cpu in timed),
        "bytes": sum(reports[0].bytes_sent_per_party) / 3,
        "rounds": reports[0].rounds,
    }


def _agreement(text: Text, config: str, say: Callable[[str], None]) -> dict[str, Any]:
    decoder, length = text.decoder, text.prompt.shape[1]
    plain = jax.jit(decoder.prefill, static_argnames=("length",))
    function = secure(decoder.prefill, static_argnames=("length",), config=config, check=False).hold(
        params=text.params
    )
    rng = np.random.default_rng(1)
    same, clear, clear_same, errors = 0, 0, 0, []
    for prompt in range(PROMPTS):
        hot = one_hot(rng.integers(0, decoder.vocabulary, (1, length)), decoder.vocabulary)
        expected = np.asarray(plain(text.params, hot, length=length)[0])[0]
        logits = function.run(one_hot=hot, length=length).outputs[0][0]
        second, first = np.sort(expected)[-2:]
        agrees = int(np.argmax(logits) == np.argmax(expected))
        same, clear = same + agrees, clear + (first - second > MARGIN)
        clear_same += agrees * (first - second > MARGIN)
        errors.append(float(np.max(np.abs(logits - expected))))
        say(f"prompt {prompt + 1} of {PROMPTS}: {clear_same} of {clear} clear ones agree, {same} of all")
    return {
        "prompts": PROMPTS, "agree": same, "clear": int(clear), "clear_agree": int(clear_same),
        "margin": MARGIN, "max_abs_error": max(errors),
    }  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as text."""
    said = []
    for row in rows:
        head = f"{row['case']}, {row['config']}"
        if "clear" in row:
            said.append(
                f"{head}: next token as in float for {row['clear_agree']} of {row['clear']} prompts with a "
                f"margin above {row['margin']}, {row['agree']} of all {row['prompts']}; largest error of a "
                f"logit {row['max_abs_error']:.4f}"
            )
            continue
        for name in ("first", "further"):
            each = row[name]
            said.append(
                f"{head}, next token {row['next_token']}: {name} token {each['seconds']:.3f} s "
                f"({each['cpu_seconds']:.3f} s of processor), {each['bytes'] / 1e6:.2f} MB a party, "
                f"{each['rounds']} rounds"
            )
        over = row["further_over_first"]
        said.append(
            f"{head}, next token {row['next_token']}: further / first: seconds {over['seconds']:.2f}, "
            f"processor {over['cpu_seconds']:.2f}, bytes {over['bytes']:.3f}"
        )
    return said
