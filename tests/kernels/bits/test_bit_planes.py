"""Bit planes and products of shared bits are exact, whatever the number of words."""

import itertools

import numpy as np
import pytest

from ditto_kernels.bits.bit_planes import (
    compare_digits,
    digits_of,
    pack,
    to_planes,
    transpose_bits,
    unary,
    unary_planes,
    unpack,
    word_count,
)
from ditto_kernels.bits.bit_products import evaluate
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.values.absent import absent, is_absent


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_transposition_is_an_involution_that_makes_planes(bits, rng):
    word = np.dtype(f"uint{bits}")
    rows = rng.integers(0, 2**bits, (bits, 3), dtype=word)
    planes = rows.copy()
    transpose_bits(planes)
    again = planes.copy()
    transpose_bits(again)
    assert np.array_equal(again, rows)
    one = word.type(1)
    for row, plane in itertools.product(range(bits), repeat=2):
        left = (planes[plane] >> word.type(row)) & one
        assert np.array_equal(left, (rows[row] >> word.type(plane)) & one)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("size", [1, 7, 64, 100, 9000])
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


def test_unary_digits_and_comparisons_agree_with_integers(rng):
    dealt, public = (rng.integers(0, 2**8, 80, dtype=np.uint16) for _ in range(2))
    digits = ((1, 4), (5, 3))
    entries = unary(to_planes(dealt, 16), digits)
    assert len(entries) == unary_planes(digits)
    other = rng.integers(0, 2**16, entries.shape, dtype=np.uint16)
    parts = [
        compare_digits(to_planes(public, 16), part, digits, leader)
        for part, leader in ((other, True), (entries ^ other, False))
    ]
    for digit, (start, width) in enumerate(digits):
        c, r = ((value >> start) % 2**width for value in (public, dealt))
        for which, expected in enumerate((c < r, c == r)):
            word = parts[0][which][digit] ^ parts[1][which][digit]
            assert np.array_equal(unpack(word, 80, 16), expected)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("size", [1, 7, 100, 3000])
def test_packed_bits_unpack(bits, size, rng):
    flags = rng.integers(0, 2, (2, size), dtype=np.uint8)
    words = pack(flags, bits)
    assert words.shape == (2, word_count(size, bits)) and words.dtype == f"uint{bits}"
    assert np.array_equal(unpack(words, size, bits), flags)


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize("words", [1, 9, 600, 5000])  # These are few and many.
def test_products_of_negated_and_of_many_factors(mpc, rng, dealer, words):
    outputs = (((0, ~1, 2, 3, ~4, 5, 6),), ((~3,), (2, ~4), (~0, ~1, ~6)), ((5,), (~2,)))
    values, share = (rng.integers(0, 2**16, (7, words), dtype=np.uint16) for _ in range(2))

    def protocol(party):
        inputs = {"A": share, "B": values ^ share, "D": absent(values.shape, values.dtype)}[party.role]
        return (yield from evaluate(party, inputs, outputs))

    outcome = mpc(protocol, dealer=dealer)
    outcome.assert_cost(cost_of(evaluate, absent(values.shape, values.dtype), outputs), dealer)
    first, second = (outcome.parts[(dealer + party) % 3] for party in (1, 2))
    for place, monomials in enumerate(outputs):
        factors = [[values[each] if each >= 0 else ~values[~each] for each in m] for m in monomials]
        expected = np.bitwise_xor.reduce([np.bitwise_and.reduce(each) for each in factors])
        assert np.array_equal(first[place] ^ second[place], expected)


@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_products_of_shared_bits_in_one_round(mpc, rng, dealer):
    outputs = (((0, 1, 2, 3), (1,), (2, 4)), ((3,),), ((0, 4),))
    values = rng.integers(0, 2**16, (5, 9), dtype=np.uint16)
    share = rng.integers(0, 2**16, (5, 9), dtype=np.uint16)

    def protocol(party):
        inputs = {"A": share, "B": values ^ share, "D": absent(values.shape, values.dtype)}[party.role]
        return (yield from evaluate(party, inputs, outputs))

    outcome = mpc(protocol, dealer=dealer)
    outcome.assert_cost(cost_of(evaluate, absent(values.shape, values.dtype), outputs), dealer)
    assert is_absent(outcome.parts[dealer]) and outcome.parts[dealer].shape == (3, 9)
    first, second = (outcome.parts[(dealer + party) % 3] for party in (1, 2))
    for place, monomials in enumerate(outputs):
        expected = np.bitwise_xor.reduce([np.bitwise_and.reduce(values[list(m)]) for m in monomials])
        assert np.array_equal(first[place] ^ second[place], expected)
