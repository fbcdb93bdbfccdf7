"""Local steps give the same bits by other instructions, and absent results for absent operands."""

import importlib
import pkgutil

import numpy as np
import pytest
from jax.experimental import enable_x64

import ditto_kernels
from ditto_kernels.bits.bit_planes import compare_digits, digits_of, to_planes, unary_planes, unpack
from ditto_kernels.bits.bit_products import expand, mask_products, opened_inputs, subsets
from ditto_kernels.protocol.local_step import LocalStep, local_step
from ditto_kernels.values.absent import absent, is_absent

OUTPUTS = (((0, ~1, 2, 3),), ((~3,), (2, ~4), (~0, ~1)), ((4,), (~2,)))


@pytest.fixture(autouse=True)
def wide_types():
    """Switch on 64-bit types, as in every party's thread."""
    with enable_x64():
        yield


def words(rng, *shape, bits=16):
    return rng.integers(0, 2**bits, shape, dtype=f"uint{bits}")


def _planes(rng, size):
    return [(words(rng, 2, size, bits=bits), bits) for bits in (8, 16, 32)]


def _unpack(rng, size):
    return [(words(rng, 3, size), 16 * size - 5, 16)]


def _digits(rng, size):
    digits = digits_of(0, 15)
    shares = words(rng, unary_planes(digits), size)
    return [(words(rng, 16, 2, size), shares, digits, leader) for leader in (False, True)]


def _masks(rng, size):
    return [(words(rng, len(opened_inputs(OUTPUTS)), size), OUTPUTS)]


def _products(rng, size):
    opened, masks = (words(rng, len(opened_inputs(OUTPUTS)), size) for _ in range(2))
    inputs, dealt = list(words(rng, 5, size)), words(rng, len(subsets(OUTPUTS)), size)
    return [(inputs, opened, masks, dealt, OUTPUTS, leader) for leader in (False, True)]


OPERANDS = {
    to_planes: _planes,
    unpack: _unpack,
    compare_digits: _digits,
    mask_products: _masks,
    expand: _products,
}


def all_steps():
    modules = (each.name for each in pkgutil.walk_packages(ditto_kernels.__path__, "ditto_kernels."))
    return {
        step
        for name in modules
        for step in vars(importlib.import_module(name)).values()
        if isinstance(step, LocalStep)
    }


def test_every_step_with_instructions_for_few_is_tested():
    assert {each for each in all_steps() if each.few is not None} == set(OPERANDS)


@pytest.mark.parametrize("size", [1, 7, 64, 3000])
@pytest.mark.parametrize("step", OPERANDS, ids=lambda step: step.__name__)
def test_few_and_many_give_the_same_bits(rng, step, size):
    for operands in OPERANDS[step](rng, size):
        few, many = (np.asarray(function(*operands)) for function in (step.few, step.many))
        assert few.dtype == many.dtype and np.array_equal(few, many)
        assert np.array_equal(np.asarray(step(*operands)), many)


@pytest.mark.parametrize("step", OPERANDS, ids=lambda step: step.__name__)
def test_absent_operands_give_results_of_the_same_shapes(rng, step):
    for operands in OPERANDS[step](rng, 70):
        gone = [absent(each.shape, each.dtype) if isinstance(each, np.ndarray) else each for each in operands]
        expected, made = step.many(*operands), step(*gone)
        for one, other in zip(expected, made, strict=True):
            assert is_absent(other) and (one.shape, one.dtype) == (other.shape, other.dtype)


def test_one_absent_operand_of_a_list_is_enough():
    total = local_step(lambda arrays: arrays[0])(lambda arrays: sum(arrays))
    present, gone = np.ones(3, np.int32), absent((3,), np.dtype(np.int32))
    assert is_absent(total([gone, present])) and np.array_equal(total([present, present]), [2, 2, 2])
