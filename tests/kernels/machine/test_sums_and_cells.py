"""Generated code and numpy return the same sums with few columns, and the same cells, for all sizes."""

import gc

import numpy as np
import pytest

from ditto_kernels.machine import compile
from ditto_kernels.machine import generated as module
from ditto_kernels.machine.cells import NumpyCells
from ditto_kernels.machine.generated import Generated
from ditto_kernels.machine.generated_cells import UNARY, _cells
from ditto_kernels.machine.numpy_xla import NumpyXla
from ditto_kernels.values.formats import signed, unsigned
from tests.kernels.machine.test_backends import LAYOUTS, elements


@pytest.fixture(scope="module", params=[None, 16, 32])
def generated(request):
    """Code for vectors of this processor, and for narrower ones."""
    target = compile.processor()
    if request.param is None:
        return Generated(target)
    return Generated(compile.Processor(target.name, target.features, request.param, 16))


def drawn(rng, dtype, shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


SHAPES = [
    (1, 5, 70, 2),
    (3, 5, 17, 7),
    (2, 9, 3, 1),
    (1, 1, 1, 5),
    (2, 0, 3, 2),
    (2, 3, 0, 2),
    (3, 33, 64, 8),
]


@pytest.mark.parametrize("source, ring", [(8, 32), (16, 32), (16, 64), (16, 16), (32, 32), (64, 64)])
def test_sums_have_the_bits_of_integer_products(generated, rng, source, ring):
    for place, (batch, rows, terms, columns) in enumerate(SHAPES):
        values = elements(rng, source, (batch, rows, terms), LAYOUTS[place % len(LAYOUTS)])
        if source < ring:
            values = np.abs(values).view(unsigned(source))
        for entries in {1, batch}:
            factors = drawn(rng, signed(ring), (entries, columns, terms))
            wide = values.astype(np.int64)
            expected = np.matmul(factors.astype(np.int64), wide.swapaxes(1, 2)).astype(signed(ring))
            for made in (generated, NumpyXla()):
                result = made.sums(values, factors)
                assert result.dtype == signed(ring)
                assert np.array_equal(result, expected)


@pytest.mark.parametrize("ring", [8, 16, 32, 64])
@pytest.mark.parametrize("top", [3, 4])
def test_cells_are_those_of_the_sum(generated, rng, ring, top):
    for size in (1, 7, 64, 100):
        values, numbers = (drawn(rng, unsigned(ring), size) for _ in range(2))
        masks = drawn(rng, unsigned(1 << top), size)
        shift = unsigned(ring).type(ring - top)
        sums = (values >> shift).astype(int) + (numbers >> shift)
        for made in (generated.cells, NumpyCells()):
            words = masks.copy()
            made.unary(values, words)
            for cells in (4, (1 << top) - 1):
                shares = made.read(words, numbers, cells, True), made.read(masks, numbers, cells, False)
                packed = (a ^ b for a, b in zip(*shares, strict=True))
                outside, wraps = (np.unpackbits(each, bitorder="little", count=size) for each in packed)
                assert np.array_equal(outside == 1, sums % (1 << top) >= cells - 1)
                assert np.array_equal(wraps == 1, sums >= (1 << top) - 1)


def test_bits_become_numbers(generated, rng):
    for size in (8, 16, 72, 1000):
        a, b, p, q = (drawn(rng, np.uint8, size // 8) for _ in range(4))
        first, x, y = drawn(rng, np.uint8, size), a ^ p, b ^ q
        second = np.unpackbits(p & q, bitorder="little") - first
        for made in (generated.cells, NumpyCells()):
            total = made.counts(a, p, x, y, first, True) + made.counts(b, q, y, x, second, False)
            assert np.array_equal(total, np.unpackbits(a ^ b, bitorder="little"))


def test_parities_choose_windows_of_a_stream(generated, rng):
    for size in (1, 31, 64, 1000):
        bits, stream = drawn(rng, np.uint8, size), drawn(rng, np.uint8, size + 31)
        expected = [np.bitwise_xor.reduce(bits & stream[place : place + size]) for place in range(32)]
        for made in (generated.cells, NumpyCells()):
            assert np.array_equal(made.parities(bits, stream, 32), expected)


def test_a_layout_keeps_its_code(rng):
    """Two threads may compile the same code at once, and what one of them laid out still has its own."""
    made, values = Generated(compile.processor()), drawn(rng, signed(32), (1, 7, 40))
    factors = drawn(rng, signed(32), (1, 2, 40))
    expected = made.sums(values, factors)
    module._sums.cache_clear()
    gc.collect()
    assert np.array_equal(made.sums(values, factors), expected)


def test_shapes_that_do_not_fit_are_refused(generated, rng):
    """The code would read memory of others."""
    values = drawn(rng, signed(32), (2, 5, 7))
    for shape in [(2, 3, 8), (3, 3, 7)]:
        with pytest.raises(ValueError, match="have no sums"):
            generated.sums(values, drawn(rng, signed(32), shape))
    numbers, masks, packed = (drawn(rng, unsigned(each), 16) for each in (32, 8, 8))
    cells, products = generated.cells, np.zeros(16, np.uint8)
    steps = [
        lambda: cells.unary(numbers, masks[:9]),
        lambda: cells.unary(numbers[::2], masks[:8]),
        lambda: cells.read(masks, numbers[:9], 4, True),
        lambda: cells.counts(packed, packed[:1], packed, packed, products, True),
        lambda: cells.parities(packed, np.zeros(18, np.uint8), 4),
    ]
    for step in steps:
        with pytest.raises(ValueError, match="side by side"):
            step()


def test_a_function_outlives_a_cache_that_lets_it_go(generated):
    """Two threads that need the same code first compile it twice, and a cache keeps one of the two."""
    numbers, found, wanted = np.arange(100, dtype=np.uint32) << 24, *np.zeros((2, 100), np.uint8)
    unary = _cells(generated.cells._target, 4, 1).functions[UNARY.name]
    _cells.cache_clear()
    gc.collect()
    for _ in range(50):  # new code takes the memory of what is gone
        _cells(generated.cells._target, 4, 2)
        _cells.cache_clear()
    unary(*compile.addresses(found, numbers), 100)
    NumpyCells().unary(numbers, wanted)
    assert np.array_equal(found, wanted) and found.any()
