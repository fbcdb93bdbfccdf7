"""Tests that programs are kept up to a number, and up to a size of their text."""

import pytest

from ditto_spu.ir import program_cache
from ditto_spu.ir.program_cache import kept_by_text


@pytest.fixture
def made():
    return []


@pytest.fixture
def length(made):
    return kept_by_text(lambda text: made.append(text) or len(text))


def test_a_program_is_made_once(made, length):
    assert [length("a"), length("bb"), length("a")] == [1, 2, 1]
    assert made == ["a", "bb"]


def test_the_oldest_programs_go(made, length, monkeypatch):
    monkeypatch.setattr(program_cache, "_MOST_PROGRAMS", 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        length(text)
    assert made == ["a", "b", "c", "b"]


def test_long_programs_displace_others(made, length, monkeypatch):
    monkeypatch.setattr(program_cache, "_MOST_CHARACTERS", 10)
    for text in ("a" * 4, "b" * 4, "c" * 9, "c" * 9, "d" * 99, "d" * 99, "e"):
        length(text)
    assert [each[0] for each in made] == ["a", "b", "c", "d", "e"]
    assert length("e") == 1 and len(made) == 5
