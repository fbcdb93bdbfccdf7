"""Every back end of local products returns the bits of numpy, modulo 2^ring, for all shapes and layouts."""

import math
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto_kernels.machine import backends, compile, generated
from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.generated import Generated
from ditto_kernels.machine.numpy_xla import NumpyXla
from ditto_kernels.machine.operands import Combination
from ditto_kernels.products import matmul
from ditto_kernels.products.matmul import local_products
from ditto_kernels.values.formats import Fxp, signed
from ditto_kernels.values.replicated import share

RINGS = (8, 16, 32, 64)
SHAPES = ((2, 3, 4), (1, 3, 4), (2, 3, 5))
LAYOUTS = ("rows", "columns", "reversed", "every other", "one row repeated", "unaligned")


@pytest.fixture(scope="module", params=["generated", "other vectors", "numpy and XLA"])
def made(request):
    """Each back end. Code for narrower vectors and fewer registers runs on this processor, too."""
    if request.param == "numpy and XLA":
        return NumpyXla()
    target = compile.processor()
    if request.param == "generated":
        return Generated(target)
    return Generated(compile.Processor(target.name, target.features, 16, 16))


def elements(rng, ring, shape, layout):
    """Random ring elements over the whole ring, as an array with the strides of a layout."""
    info, (batch, free, terms) = np.iinfo(signed(ring)), shape

    def drawn(*sizes):
        return rng.integers(info.min, info.max, sizes, signed(ring), endpoint=True)

    if layout == "columns":
        return drawn(batch, terms, free).swapaxes(1, 2)
    if layout == "reversed":
        return drawn(*shape)[::-1, ::-1, ::-1]
    if layout == "every other":
        return drawn(batch, 2 * free, 3 * terms)[:, ::2, ::3]
    if layout == "one row repeated":
        return np.broadcast_to(drawn(batch, 1, terms), shape)
    if layout == "unaligned":
        flat = np.zeros(batch * free * terms * ring // 8 + 1, np.uint8)[1:].view(signed(ring)).reshape(shape)
        flat[...] = drawn(*shape)
        return flat
    return drawn(*shape)


class Side(NamedTuple):
    operand: Combination
    value: np.ndarray


def side(rng, ring, shape, layouts, factors):
    x, y = (elements(rng, ring, shape, layout) for layout in layouts)
    wide = x.astype(np.int64) * factors[0] + y.astype(np.int64) * factors[1]
    return Side(Combination(x, y, *factors), wide)


def product(made, pairs):
    return made.multiply([(made.prepare(a.operand, True), made.prepare(b.operand, False)) for a, b in pairs])


def expected(pairs, ring):
    with np.errstate(over="ignore"):
        total = sum(np.matmul(a.value, b.value.swapaxes(1, 2)) for a, b in pairs)
    return total.astype(signed(ring))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_products_have_the_bits_of_numpy(made, data):
    ring, layouts = data.draw(st.sampled_from(RINGS)), st.sampled_from(LAYOUTS)
    batch, m, n = (data.draw(st.integers(0, most)) for most in (3, 21, 75))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pairs = []
    for _ in range(data.draw(st.integers(1, 2))):
        terms = data.draw(st.integers(0, 40))
        factors = st.tuples(st.integers(-2, 2), st.integers(-2, 2))
        pairs.append(
            tuple(
                side(
                    rng,
                    ring,
                    (batch, free, terms),
                    data.draw(st.tuples(layouts, layouts)),
                    data.draw(factors),
                )
                for free in (m, n)
            )
        )
    result = product(made, pairs)
    assert result.dtype == signed(ring)
    assert np.array_equal(result, expected(pairs, ring))


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 700, 1),
        (1, 1, 1030, 130),  # one row over several blocks of terms
        (1, 131, 530, 67),  # tails in every direction, behind whole blocks
        (2, 259, 33, 64),
        (5, 40, 1, 200),
        (1, 7, 2100, 3),  # beyond what one float64 product of limbs sums exactly
    ],
)
def test_blocks_and_tails(made, rng, ring, sizes):
    batch, m, terms, n = sizes
    pair = [side(rng, ring, (batch, free, terms), ("rows", "rows"), (1, 1)) for free in (m, n)]
    assert np.array_equal(product(made, [pair]), expected([pair], ring))


@pytest.mark.parametrize("ring", RINGS)
def test_threads_share_a_product(rng, ring, monkeypatch):
    monkeypatch.setattr(generated, "_processors", lambda: 3)
    monkeypatch.setattr(generated.tuning, "TERMS_PER_THREAD", 100)
    for batch, m, n in ((1, 5, 300), (1, 400, 5), (7, 3, 3), (1, 1, 1)):
        pair = [side(rng, ring, (batch, free, 20), ("rows", "columns"), (1, -1)) for free in (m, n)]
        assert np.array_equal(product(backend(), [pair]), expected([pair], ring))


def test_an_operand_is_prepared_once_and_serves_other_arrays(made, rng):
    right = side(rng, 32, (1, 50, 30), ("rows", "rows"), (1, 2))
    kept = made.prepare(right.operand, False)
    right.operand.x[...] = 0  # prepared operands share no memory with the arrays that they are made of
    for rows in (1, 9):
        left = side(rng, 32, (1, rows, 30), ("rows", "rows"), (1, 0))
        result = made.multiply([(made.prepare(left.operand, True), kept)])
        assert np.array_equal(result, expected([(left, right)], 32))


PRODUCTS = [
    ((40, 30), (30, 50), (((1,), (0,)), ((), ())), "mk,kn->mn"),
    ((3, 40, 25), (25, 3, 50), (((2,), (0,)), ((0,), (1,))), "bmk,kbn->bmn"),
    ((20, 5, 6), (5, 20, 6), (((1, 2), (0, 2)), ((), ())), "mkl,knl->mn"),
    ((6,), (6,), (((0,), (0,)), ((), ())), "k,k->"),
    ((4, 0), (0, 5), (((1,), (0,)), ((), ())), "mk,kn->mn"),
]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("ring", RINGS)
def test_parties_with_different_back_ends_compute_one_product(rng, ring, held, double, monkeypatch):
    fxp = Fxp(ring, 0)
    for left, right, dims, meaning in PRODUCTS:
        x, w = (elements(rng, ring, (1, 1, math.prod(each)), "rows").reshape(each) for each in (left, right))
        total = np.zeros((), fxp.dtype)
        parts = zip(
            share(x, fxp, rng.bytes), share(w, fxp, rng.bytes), (backend, NumpyXla, backend), strict=True
        )
        for rank, (mine, weight, made) in enumerate(parts):
            monkeypatch.setattr(matmul, "backend", made)
            factor = weight.kept() if held else weight
            for _ in range(2):  # The second product finds what the first one has prepared.
                part = local_products(rank, mine, factor, dims, double)
            total = total + part
        expected = np.einsum(meaning, x, w) * fxp.dtype.type(1 + double)
        assert total.shape == expected.shape
        assert np.array_equal(total, expected)


def test_numpy_and_xla_serve_where_code_cannot_be_made(monkeypatch):
    def unknown():
        raise RuntimeError("no target")

    fresh = backends.choose.__wrapped__
    assert isinstance(fresh(), Generated)
    with monkeypatch.context() as patch:
        patch.setattr(compile, "processor", unknown)
        assert isinstance(fresh(), NumpyXla)
    with monkeypatch.context() as patch:
        patch.setattr(Generated, "multiply", lambda self, pairs: np.zeros(1))  # Its code is wrong.
        assert isinstance(fresh(), NumpyXla)
    monkeypatch.setitem(sys.modules, "ditto_kernels.machine.compile", None)  # as without llvmlite
    monkeypatch.delitem(sys.modules, "ditto_kernels.machine.generated")
    assert isinstance(fresh(), NumpyXla)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")
def test_a_process_that_must_not_make_code_falls_back():
    """LLVM would end the process. The kernel denies it executable pages, as systemd does for services."""
    code = (
        "import ctypes; denied = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n"
        "from ditto_kernels.machine.backends import backend\n"
        "print(denied, type(backend()).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() in (["True", "NumpyXla"], ["False", "Generated"])


def test_generated_code_refuses_operands_that_do_not_fit():
    """It would read beyond their ends."""
    back = Generated(compile.processor())
    zeros = {(shape, kind): np.zeros(shape, kind) for shape in SHAPES for kind in (np.int64, np.int32)}
    left, right = (
        {key: back.prepare(Combination(each, each), left=side) for key, each in zeros.items()}
        for side in (True, False)
    )
    first = ((2, 3, 4), np.int64)
    assert back.multiply([(left[first], right[first])]).shape == (2, 3, 3)
    for other in zeros:
        if other != first:
            with pytest.raises(ValueError, match="have no product here"):
                back.multiply([(left[first], right[other]), (left[first], right[first])])
            with pytest.raises(ValueError, match="have no product here"):
                back.multiply([(left[first], right[first]), (left[other], right[first])])
            with pytest.raises(ValueError, match="are not alike"):
                back.prepare(Combination(zeros[first], zeros[other], 1, 1), left=True)
