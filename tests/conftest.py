"""Fixtures for all tests."""

import os
import pathlib
import random
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

SEED = os.environ.get("DITTO_TEST_SEED", "0")
settings.register_profile("repeatable", derandomize=SEED != "fresh", database=None)
settings.load_profile("repeatable")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(autouse=True)
def repeatable_keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test draw the same keys and shares in every run, so that what fails by chance can be repeated.

    The examples of hypothesis are the same ones, too. The variable DITTO_TEST_SEED names other draws. `fresh`
    takes them from the system, as runs do outside of tests, and as three processes do always.
    """
    if SEED != "fresh":
        draw = random.Random(f"{SEED} {request.node.nodeid}").randbytes
        for module in ("ditto_spu.runtime.precompute", "ditto_kernels.protocol.three_threads"):
            monkeypatch.setattr(f"{module}.secrets", SimpleNamespace(token_bytes=draw))
        monkeypatch.setattr(os, "urandom", draw)


@pytest.fixture(autouse=True, scope="session")
def ledger_of_material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Keep the ledger of unspent material out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patched:
        state = tmp_path_factory.mktemp("state")
        patched.setenv("XDG_STATE_HOME", str(state))
        yield state
