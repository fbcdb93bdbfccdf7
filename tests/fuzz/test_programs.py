"""Random programs give what float64 gives, or are refused with the reason.

A failing program prints as Python that runs it, with its inputs.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.judge import forget_compilations, judge
from tests.fuzz.programs import Program, programs

REFUSED_IN_RANGE = 0.02  # the share of programs within ±2^20 and above 2^-12 that may be refused


def run_many(count: int, derandomize: bool) -> None:
    """Judge that many programs. Fail with all faults, as programs that run."""
    verdicts: Counter[str] = Counter()
    faults, refusals = [], []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def each(program: Program) -> None:
        verdict = judge(program)
        verdicts[verdict.kind] += 1
        told = f"{verdict.kind}: {verdict.reason}\n{program!r}"
        if verdict.kind in ("wrong", "bare", "hang"):
            faults.append(told)
        elif verdict.kind == "refused" and verdict.in_range:
            refusals.append(told)
        if sum(verdicts.values()) % 50 == 0:
            forget_compilations()

    each()
    assert not faults, f"{len(faults)} of {dict(verdicts)}:\n\n" + "\n".join(faults)
    assert len(refusals) <= REFUSED_IN_RANGE * sum(verdicts.values()), "\n".join(refusals)


def test_a_hundred_programs():
    run_many(100, derandomize=True)


@pytest.mark.slow
def test_a_thousand_fresh_programs():
    run_many(1000, derandomize=False)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(programs())
def test_a_printed_program_is_python(program):
    compile(repr(program), "program", "exec")


def test_the_judge_finds_a_wrong_result(monkeypatch):
    """A fuzzer whose tolerance swallows everything is worth nothing."""
    program = Program(("p",), (np.array([1.0, 2.0], np.float32),), (), ("v0 = jnp.exp(p)",))
    assert judge(program).kind == "right"
    monkeypatch.setattr("tests.fuzz.judge.ditto.secure", lambda fn, public: lambda p: fn(p) * 1.02)
    assert judge(program).kind == "wrong"
