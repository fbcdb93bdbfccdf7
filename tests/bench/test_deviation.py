"""The study of a checked truncation: it gives the same result, and finds who changes a message."""

import numpy as np
import pytest

from bench.deviation import (
    DROPPED,
    SOURCE,
    DeviationError,
    Tamper,
    checked_truncate,
    honest,
    sacrificed_bits,
)
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.values.replicated import reconstruct, share

VALUES = np.random.default_rng(0).integers(-(1 << 29), 1 << 29, 300).astype(np.int32)


def run(tamper: Tamper, dealer: int = 2):
    parts = share(VALUES, SOURCE, np.random.default_rng(1).bytes)
    return run_in_turns(
        lambda party, _: checked_truncate(party.with_dealer(dealer), parts[party.rank], tamper)
    )


@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_it_truncates_at_the_stated_cost(dealer):
    results, traffic = run(honest, dealer)
    assert np.max(np.abs(reconstruct(results) - VALUES / 2.0**DROPPED)) < 1.5
    assert sum(each.bytes_sent for each in traffic) == 24 * VALUES.size + 2 * (32 + 16 + 8)
    assert sum(each.offline_bytes for each in traffic) == 48 * VALUES.size
    assert sacrificed_bits(1 << 14) == pytest.approx(362, abs=2)


@pytest.mark.parametrize("name", ["opening", "wrap"])
@pytest.mark.parametrize("role", "AB")
@pytest.mark.parametrize("change", [1, 1 << 15])
def test_a_changed_message_is_found(name, role, change):
    def tamper(party, sent, array):
        if (party.role, sent) != (role, name):
            return array
        changed = array.copy()
        changed[[17, 30]] += array.dtype.type(change)
        return changed

    with pytest.raises(DeviationError):
        run(tamper)
