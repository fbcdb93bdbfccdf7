"""Tests that parties whose processors compute differently refuse each other, or compute what is right."""

import pytest

from bench.processors import KINDS, pairs


@pytest.mark.slow
def test_no_pair_of_processors_gives_a_wrong_output():
    found = {(first, second): outcome for first, second, outcome in pairs()}
    assert len(found) == len(KINDS) * (len(KINDS) - 1)
    assert all(outcome == "right" or outcome.startswith("refused") for outcome in found.values()), found
    assert any(outcome.startswith("refused") for outcome in found.values())  # the kinds do differ
