"""Fixtures for all tests."""

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(autouse=True, scope="session")
def ledger_of_material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Keep the ledger of unspent material out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patched:
        state = tmp_path_factory.mktemp("state")
        patched.setenv("XDG_STATE_HOME", str(state))
        yield state
