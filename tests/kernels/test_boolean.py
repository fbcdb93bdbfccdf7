"""Bit planes and products of shared bits."""

import itertools

import numpy as np
import pytest

from ditto_kernels.boolean import (
    digits_of,
    evaluate,
    evaluate_cost,
    minterms,
    to_planes,
    transpose_bits,
    unpack,
    word_count,
)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_transposition_is_an_involution_that_makes_planes(bits, rng):
    word = np.dtype(f"uint{bits}")
    rows = rng.integers(0, 2**bits, (bits, 3), dtype=word)
    planes = transpose_bits(rows)
    assert np.array_equal(transpose_bits(planes), rows)
    one = word.type(1)
    for row, plane in itertools.product(range(bits), repeat=2):
        left = (planes[plane] >> word.type(row)) & one
        assert np.array_equal(left, (rows[row] >> word.type(plane)) & one)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_planes_unpack_to_the_elements_bits(bits, size, rng):
    elements = rng.integers(0, 2**bits, size, dtype=np.dtype(f"uint{bits}"))
    planes = to_planes(elements, bits)
    assert planes.shape == (bits, word_count(size, bits))
    for place in range(bits):
        expected = (elements >> elements.dtype.type(place)) & elements.dtype.type(1)
        assert np.array_equal(unpack(planes[place], size, bits), expected)


def test_digits_cover_the_range_once():
    for low, high in ((0, 15), (0, 31), (3, 8), (0, 1)):
        places = [start + bit for start, width in digits_of(low, high) for bit in range(width)]
        assert places == list(range(low, high))


def test_exactly_one_minterm_of_a_digit_holds(rng):
    planes = rng.integers(0, 2**16, (6, 5), dtype=np.uint16)
    terms = minterms(planes, 1, 4)
    assert len(terms) == 16
    assert np.all(np.bitwise_xor.reduce(terms) == 0xFFFF)
    assert sum(int(unpack(term, 80, 16).sum()) for term in terms) == 80


@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_products_of_shared_bits_in_one_round(mpc, rng, dealer):
    outputs = (((0, 1, 2, 3), (1,), (2, 4)), ((3,),), ((0, 4),))
    values = rng.integers(0, 2**16, (5, 9), dtype=np.uint16)
    share = rng.integers(0, 2**16, (5, 9), dtype=np.uint16)

    def protocol(party):
        inputs = {"A": share, "B": values ^ share, "D": None}[party.role]
        return (yield from evaluate(party, inputs, outputs, (9,), np.dtype(np.uint16)))

    outcome = mpc(protocol, dealer=dealer)
    outcome.assert_cost(evaluate_cost(outputs, 9, 16), dealer)
    assert outcome.parts[dealer] is None
    result = outcome.parts[(dealer + 1) % 3] ^ outcome.parts[(dealer + 2) % 3]
    for place, monomials in enumerate(outputs):
        expected = np.bitwise_xor.reduce([np.bitwise_and.reduce(values[list(m)]) for m in monomials])
        assert np.array_equal(result[place], expected)
