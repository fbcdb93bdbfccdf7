"""A fused step gives numpy's bits as a loop, for every ring, odd sizes and all layouts of its operands."""

import numpy as np
import pytest

from ditto_kernels.machine import backends, fused, loop_code, tuning
from ditto_kernels.machine.numpy_xla import NumpyXla
from ditto_kernels.machine.words import entries
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import signed, unsigned

RINGS = (8, 16, 32, 64)
SIZES = (1, 63, 64, 65, 130, 4097)


@pytest.fixture(autouse=True)
def loops_for_few(monkeypatch):
    """Let loops serve few elements too, and other vectors than this processor's."""
    monkeypatch.setattr(tuning, "NUMPY_ELEMENTS", 0)


@fused.fused()
def arithmetic(x, y, *, bits):
    """Every operator, on signed and on unsigned numbers."""
    word = x.view(unsigned(8 * x.dtype.itemsize))
    less, equal = x < y, x == y
    mixed = (x + y) * x - (3 - y) ^ (x & ~y) | -x
    return (
        [mixed, x << bits, x >> bits, (word >> bits).view(x.dtype)],
        [less, ~less, equal, (x >= y) ^ equal, x != y, x > y, x <= y, word < 3],
        less.astype(x.dtype) * x,
    )


@fused.fused()
def cast(x, *, target):
    return x.astype(target)


@fused.fused(rows=("x", "table"), tables=("table",))
def looked_up(x, table, *others):
    index = x[0] & 7
    return entries(table[0], index) + entries(table[1], index ^ x[1] & 1) + sum(others[1:], others[0])


def drawn(rng, ring, *shape):
    info = np.iinfo(signed(ring))
    return rng.integers(info.min, info.max, shape, signed(ring), endpoint=True)


def same(made, expected):
    for one, other in zip(made, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


def compiles(step):
    return any(loop is not None for loop in step._loops.values())


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("size", SIZES)
def test_loops_give_the_bits_of_numpy(rng, ring, size):
    x, y = drawn(rng, ring, size), drawn(rng, ring, size)
    y[::3] = x[::3]
    same(arithmetic(x, y, bits=3), arithmetic.by_numpy(x, y, bits=3))
    assert compiles(arithmetic) or backends.backend().target is None


@pytest.mark.parametrize(
    "source", [np.dtype(bool), *(signed(r) for r in RINGS), *(unsigned(r) for r in RINGS)]
)
@pytest.mark.parametrize("target", RINGS)
def test_casts_extend_and_cut_as_numpy_does(rng, source, target):
    x = drawn(rng, 64, 200).astype(source)
    same([cast(x, target=signed(target))], [x.astype(signed(target))])


OTHERS = {
    "one number": lambda rng, shape: drawn(rng, 32, 1)[0],
    "an array without axes": lambda rng, shape: drawn(rng, 32, 1).reshape(()),
    "a number for each row": lambda rng, shape: drawn(rng, 32, *shape[:-1], 1),
    "one row": lambda rng, shape: drawn(rng, 32, shape[-1]),
    "columns": lambda rng, shape: np.moveaxis(drawn(rng, 32, shape[-1], *shape[:-1]), 0, -1),
    "every other": lambda rng, shape: drawn(rng, 32, *shape[:-1], 2 * shape[-1])[..., ::2],
    "a part of a row": lambda rng, shape: drawn(rng, 32, *shape[:-1], shape[-1] + 5)[..., 3:-2],
    "reversed": lambda rng, shape: drawn(rng, 32, *shape)[..., ::-1],
    "unaligned": lambda rng, shape: unaligned(drawn(rng, 32, *shape)),
}


def unaligned(array):
    kept = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    kept[...] = array
    return kept


@pytest.mark.parametrize("shape", [(7, 100), (3, 5, 70), (1000,), (90, 5)])
@pytest.mark.parametrize("layout", OTHERS)
def test_operands_are_broadcast_from_any_layout(rng, shape, layout):
    x, table = drawn(rng, 32, 2, *shape), drawn(rng, 32, 3, 8)
    other, plain = OTHERS[layout](rng, shape), drawn(rng, 32, *shape)
    operands = (x, table, other, plain)
    same([looked_up(*operands)], [looked_up.by_numpy(*operands)])
    by_columns = np.moveaxis(drawn(rng, 32, shape[-1], 2, *shape[:-1]), 0, -1)
    operands = (by_columns, table[:, ::-1], other, plain)
    same([looked_up(*operands)], [looked_up.by_numpy(*operands)])


@pytest.mark.parametrize("ring", RINGS)
def test_single_elements_stay_in_their_ring(rng, ring):
    x, y = drawn(rng, ring, 1).reshape(()), drawn(rng, ring, 1).reshape(())
    expected = arithmetic.by_numpy(x.reshape(1), y.reshape(1), bits=2)
    same(arithmetic(x, y, bits=2), [each.reshape(each.shape[:-1]) for each in expected])


def test_absent_operands_give_absent_results_of_the_same_shapes(rng):
    x = drawn(rng, 32, 70)
    made, expected = arithmetic(absent(x.shape, x.dtype), x, bits=3), arithmetic(x, x, bits=3)
    for one, other in zip(made, expected, strict=True):
        assert is_absent(one) and (one.shape, one.dtype) == (other.shape, other.dtype)


def test_types_are_not_mixed(rng):
    step = fused.fused()(lambda x, y: x + y)
    with pytest.raises(TypeError, match="int32 and int16 in one operation"):
        step(drawn(rng, 32, 100), drawn(rng, 16, 100))


def test_constants_fit_their_type(rng):
    step = fused.fused()(lambda x: x + 200)
    with pytest.raises(OverflowError, match="200 does not fit int8"):
        step(drawn(rng, 8, 100))


@pytest.mark.parametrize("broken", ["no code", "refused"])
def test_numpy_serves_where_no_code_can_be_made(rng, broken, monkeypatch):
    def refuse(*_):
        raise RuntimeError("LLVM refuses it")

    if broken == "no code":
        monkeypatch.setattr(fused, "backend", NumpyXla)
    else:
        monkeypatch.setattr(fused, "compiled_loop", refuse)
    step = fused.fused()(arithmetic.plain)
    x, y = drawn(rng, 32, 100), drawn(rng, 32, 100)
    same(step(x, y, bits=5), arithmetic.by_numpy(x, y, bits=5))
    assert not compiles(step)


def test_loops_serve_other_vectors(rng):
    target = backends.backend().target
    if target is None:
        pytest.skip("no code can be made here")
    narrow = type(target)(target.name, target.features, 16, 16)
    operand = loop_code.Operand(signed(32), "elements")
    made = loop_code.compiled_loop(arithmetic.plain, [operand] * 2, {"bits": 3}, narrow)
    assert made.lanes in (4, 8)


@fused.fused(rows=("table",), tables=("table",))
def beyond(x, table, *, bits):
    return [entries(each, x >> bits) for each in table]


@pytest.mark.parametrize("bits", [0, 40])
def test_loops_read_no_memory_beyond_a_table(rng, bits):
    """Numbers of a plan or a message may be any. Nothing of them reaches an address unchecked."""
    around = np.full((3, 64), 7, np.int64)
    table = around[1:2]
    table[:] = np.arange(100, 164)
    made = beyond(drawn(rng, 32, 200), table, bits=bits)
    if compiles(beyond):
        assert np.all((made >= 100) & (made < 164))
    with pytest.raises(ValueError, match="no entries"):
        beyond(drawn(rng, 32, 200), table[:, :0], bits=bits)


def test_loops_over_nothing_give_nothing(rng):
    step = fused.fused()(lambda x, y: x + y)
    for shapes in [((100, 0), (100, 1)), ((0, 100), (100,)), ((0,), (1,))]:
        assert step(*(drawn(rng, 32, *shape) for shape in shapes)).size == 0


def test_many_shapes_are_forgotten(rng, monkeypatch):
    monkeypatch.setattr(fused, "_KEPT_CALLS", 3)
    step = fused.fused()(lambda x: x + x)
    for size in range(64, 74):
        x = drawn(rng, 32, size)
        assert np.array_equal(step(x), x + x)
    assert len(step._calls) <= 3 and len(step._loops) == 1
