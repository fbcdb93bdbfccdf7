"""The comparison of a language model with float: what it counts, and how it prints."""

from __future__ import annotations

import numpy as np

from bench.language_case import _loss, _Score, lines


def test_scores_count_agreement_clear_margins_and_perplexity() -> None:
    score = _Score()
    expected = np.array([0.0, 2.0, 1.0])
    score.add(np.array([0.0, 2.5, 1.0]), expected, 1)
    score.add(np.array([0.0, 1.0, 1.5]), expected, 2)
    score.add(np.array([0.0, 1.0, 1.5]), np.array([0.0, 1.01, 1.0]), 2)
    row = score.row()
    assert (row["predictions"], row["agree"], row["clear"], row["clear_agree"]) == (3, 1, 2, 1)
    assert row["max_abs_error"] == 1.0
    logits = np.array([[0.0, 2.5, 1.0], [0.0, 1.0, 1.5], [0.0, 1.0, 1.5]])
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = chance[np.arange(3), [1, 2, 2]]
    assert np.isclose(row["perplexity"], np.exp(-np.log(chosen).mean()))
    assert np.isclose(_loss(np.array([1000.0, 0.0]), 0), 0)


def test_rows_print_agreement_and_costs() -> None:
    cost = {"seconds": 0.5, "least_seconds": 0.4, "bytes": 3e6, "rounds": 700}
    row = {"case": "smollm2-prefix", "config": "auto", **_Score(9, 8, 8, 0.1, [1.0], [1.0]).row()}
    said = lines([{**row, "first": cost, "further": cost}])
    assert said[0].startswith("smollm2-prefix, auto: likeliest token as in float for 9 of 1 predictions")
    assert "further token 0.500 s (least 0.400), 3.00 MB a party, 700 rounds" in said[2]
