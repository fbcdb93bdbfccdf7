"""The choice of a kernel's plan for few elements has a name, and the usual protocol has none."""

import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTH, ROUND_WORTHS
from ditto_kernels.values.formats import Fxp
from tests.kernels.examples import EXAMPLES, F, specs

FEW = [
    ("layer_norm", [(1, 96), (96,), (96,)], "fxp32.14", {}, "five rounds"),
    ("rms_norm", [(3, 96), (96,)], "fxp32.14", {}, "five rounds"),
    ("reciprocal", [(3,)], "fxp32.12", {}, "by octaves"),
    ("rsqrt", [(3,)], "fxp32.14", {}, "by octaves"),
    ("divide", [(3,), (3,)], "fxp32.12", {"lo": 0.5, "hi": 100.0}, "by octaves"),
    ("reduce_max", [(2, 64)], "fxp16.8", {}, "groups of 8·8"),
    ("argmax", [(1, 16)], "fxp16.8", {}, "groups of 4·4"),
    ("gelu", [(4,)], "fxp16.9", {}, "one-hot digits, lifted choice"),
    ("tanh", [(4,)], "fxp16.9", {}, "one-hot digits"),
    ("softmax", [(4, 32)], "fxp16.8", {}, "groups of 4·8, one-hot digits, by octaves"),
]
MANY = 1 << 14


def _variant(name, shapes, fxp, attributes, worth=ROUND_WORTH):
    return KERNELS[name].variant(
        *(Spec(shape, F(fxp)) for shape in shapes), out=Fxp(32, 11), worth=worth, **attributes
    )


@pytest.mark.parametrize(("name", "shapes", "fxp", "attributes", "variant"), FEW)
def test_the_way_for_few_is_named_and_that_for_many_is_not(name, shapes, fxp, attributes, variant):
    assert _variant(name, shapes, fxp, attributes) == variant
    rows = [(MANY, *shape[1:]) if len(shape) == len(shapes[0]) else shape for shape in shapes]
    assert _variant(name, rows, fxp, attributes) == ""


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_kernel_says_which_variant_it_takes(example):
    for worth in ROUND_WORTHS:
        given = {"out": F(example.out), "worth": worth, **example.attributes}
        assert isinstance(KERNELS[example.kernel].variant(*specs(example), **given), str)
