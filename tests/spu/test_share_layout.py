"""Our shares have the layout of the installed SPU's shares: party i holds (x_i, x_{i+1}), modulo 2^64."""

import os

import numpy as np
import pytest
import spu

from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import Rss, reconstruct, share
from ditto_spu.spu.party import runtime_config
from ditto_spu.spu.values import Shared, from_share, to_share

WIDE = Fxp(64, 18)
REALS = np.array([[1.5, -2.25, 0.0], [-1000.0, 2.0**-18, 12345.678]], np.float32)


@pytest.fixture
def io():
    return spu.Io(3, runtime_config())


@pytest.mark.parametrize("array", [REALS, REALS[0], np.float32(3.5)], ids=["matrix", "vector", "scalar"])
def test_spus_shares_are_ours(array, io):
    made = io.make_shares(np.asarray(array), spu.Visibility.VIS_SECRET)
    parts = [from_share(made[rank], rank) for rank in range(3)]
    for rank in range(3):
        assert np.array_equal(parts[rank].next, parts[(rank + 1) % 3].mine)
    joined = reconstruct([Rss(part.mine, part.next, WIDE) for part in parts])
    # SPU truncates toward zero when it encodes; we round.
    assert np.max(np.abs(joined - encode(array, WIDE))) <= 1
    assert parts[0].kind == "f32"


def test_our_shares_are_spus(io):
    parts = share(encode(REALS, WIDE), WIDE, os.urandom)
    given = [to_share(Shared(part.mine, part.next, "f32")) for part in parts]
    assert np.array_equal(io.reconstruct(given), REALS)


def test_integers_and_booleans_are_integers_without_fraction_bits(io):
    for array in (np.array([7, -3, 2**31 - 1], np.int32), np.array([True, False])):
        kind = {"int32": "int32", "bool": "bool"}[str(array.dtype)]
        parts = share(array.astype(np.int64), Fxp(64, 0), os.urandom)
        given = [to_share(Shared(part.mine, part.next, kind)) for part in parts]
        assert np.array_equal(io.reconstruct(given), array)
