"""Point functions and embeddings give rows of secret tables at secret indices."""

import numpy as np
import pytest

from ditto_kernels.bits.point_functions import evaluate, generate
from ditto_kernels.products.embedding import EMBEDDING_KERNEL
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_two_keys_share_a_one_hot_vector(rng, depth):
    size = 4 << depth
    points = np.concatenate([[0, size - 1], rng.integers(0, size, 9)])
    roots = rng.integers(0, 2**64, (2, len(points), 2), dtype=np.uint64)
    keys = generate(points, depth, roots[0], roots[1])
    first, second = evaluate(roots[0], *keys, first=True), evaluate(roots[1], *keys, first=False)
    assert np.array_equal(first + second, np.eye(size, dtype=np.int32)[points])
    assert np.unique(first).size > 0.9 * first.size  # A share alone does not show the point.


def check(mpc, rng, rows, width, shape, table_format, ids_format, out_format, dealer):
    table_fxp, ids_fxp, out = (Fxp.parse(text) for text in (table_format, ids_format, out_format))
    table = decode(encode(rng.uniform(-3, 3, (rows, width)), table_fxp), table_fxp)
    ids = np.asarray(rng.integers(0, rows, shape))
    if ids.size > 1:
        ids.reshape(-1)[:2] = 0, rows - 1
    outcome = mpc(EMBEDDING_KERNEL.run, (table, table_fxp), (ids, ids_fxp), dealer=dealer, out=out)
    specs = (Spec(table.shape, table_fxp), Spec(ids.shape, ids_fxp))
    outcome.assert_cost(EMBEDDING_KERNEL.cost(*specs, out=out), dealer)
    error = np.abs(outcome.value - EMBEDDING_KERNEL.reference(table, ids))
    assert outcome.value.shape == (*shape, width)
    assert error.max() <= EMBEDDING_KERNEL.error(*specs, out=out)


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(
    ("rows", "width", "shape", "table", "ids", "out"),
    [
        (1, 3, (4,), "fxp32.12", "fxp64.0", "fxp32.12"),
        (2, 8, (5,), "fxp32.12", "fxp64.0", "fxp32.12"),
        (100, 5, (3, 7), "fxp32.12", "fxp32.0", "fxp32.10"),
        (1000, 16, (), "fxp32.12", "fxp16.0", "fxp16.9"),
        (9, 4, (2, 1, 3), "fxp16.8", "fxp8.0", "fxp32.12"),
        (70000, 3, (3,), "fxp32.12", "fxp64.0", "fxp64.12"),
    ],
)
def test_rows(mpc, rng, dealer, rows, width, shape, table, ids, out):
    check(mpc, rng, rows, width, shape, table, ids, out, dealer)


def test_more_tokens_than_a_tile(mpc, rng):
    check(mpc, rng, 30522, 2, (70,), "fxp32.12", "fxp64.0", "fxp32.12", 2)


def test_an_index_outside_gives_zeros(mpc, rng):
    table = np.ones((100, 4))
    ids = np.array([-1, 100, 127, 5])
    outcome = mpc(EMBEDDING_KERNEL.run, (table, Fxp(32, 12)), (ids, Fxp(64, 0)), out=Fxp(32, 12))
    assert np.array_equal(outcome.value, EMBEDDING_KERNEL.reference(table, ids))


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    [("fxp64.18", "fxp32.0", "ring of 32 bits or less"), ("fxp32.12", "fxp32.3", "without fraction bits")],
)
def test_unfit_formats_are_refused(mpc, table, ids, message):
    with pytest.raises(ValueError, match=message):
        mpc(
            EMBEDDING_KERNEL.run,
            (np.ones((5, 2)), Fxp.parse(table)),
            (np.ones(3), Fxp.parse(ids)),
            out=Fxp(32, 12),
        )


def test_a_ring_too_small_for_the_table_is_refused(mpc):
    with pytest.raises(ValueError, match="cannot address 300 rows"):
        mpc(EMBEDDING_KERNEL.run, (np.ones((300, 2)), Fxp(32, 12)), (np.ones(3), Fxp(8, 0)), out=Fxp(32, 12))
