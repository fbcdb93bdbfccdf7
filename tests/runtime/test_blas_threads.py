"""Tests that runs share the processors, and leave the process as it was."""

import numpy as np
from threadpoolctl import threadpool_info

from ditto_spu.runtime.blas_threads import shared_processors


def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_the_limit_lasts_while_any_run_needs_it():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads()
    first, second = shared_processors(), shared_processors()
    first.__enter__()
    limited = threads()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads() == limited and max(limited) <= max(before)
    second.__exit__(None, None, None)
    assert threads() == before
