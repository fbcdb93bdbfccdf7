"""Test that every form of convolution of secret values becomes a product with the same meaning."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse

RANDOM = np.random.default_rng(3)
LAYERS = {
    "patches": nn.Conv(5, (4, 4), strides=(4, 4), padding="VALID"),
    "patches that leave a rest": nn.Conv(5, (3, 3), strides=(3, 3), padding="VALID"),
    "overlapping": nn.Conv(5, (3, 3)),
    "strided and dilated": nn.Conv(5, (3, 2), strides=(2, 1), kernel_dilation=(1, 2)),
    "groups": nn.Conv(6, (3, 3), feature_group_count=3),
    "depthwise": nn.Conv(3, (3, 3), feature_group_count=3),
    "transposed": nn.ConvTranspose(4, (3, 3), strides=(2, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_form_becomes_a_product(name: str) -> None:
    x = RANDOM.normal(size=(2, 8, 8, 3)).astype(np.float32)
    layer = LAYERS[name]
    params = layer.init(jax.random.key(0), x)
    traced = trace(layer.apply, (params, x))
    module = fuse(ir.parse(traced.module_text), traced.public)
    leaves = jax.tree_util.tree_leaves((params, x))
    before, after = ir.evaluate(traced.module_text, leaves)[0], ir.evaluate(module, leaves)[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
    names = [op.name for op in ir.walk(ir.main(module))]
    assert "stablehlo.convolution" not in names and names.count("stablehlo.dot_general") == 1


def test_other_layouts_and_ranks() -> None:
    def sound(x: Any, w: Any) -> Any:  # one dimension, channels first, a reversed window
        return jax.lax.conv_general_dilated(
            x, w[..., ::-1], (2,), [(1, 2)], dimension_numbers=("NCH", "OIH", "NHC")
        )

    x, w = (RANDOM.normal(size=size).astype(np.float32) for size in ((2, 3, 9), (4, 3, 5)))
    secure = ditto.secure(sound)
    result = secure.run(x, w)
    np.testing.assert_allclose(result.outputs, sound(x, w), atol=0.02)
    assert not any(row.kind == "spu" for row in result.report.rows)


def test_a_public_convolution_stays_as_it_is() -> None:
    x, w = (RANDOM.normal(size=size).astype(np.float32) for size in ((1, 4, 4, 1), (2, 2, 1, 1)))

    def both(x: Any, w: Any, y: Any) -> Any:
        return (
            jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            + y
        )

    traced = trace(both, (x, w, np.float32(1)), public=("x", "w"))
    module = fuse(ir.parse(traced.module_text), traced.public)
    assert "stablehlo.convolution" in [op.name for op in ir.walk(ir.main(module))]
