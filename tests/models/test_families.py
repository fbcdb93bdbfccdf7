"""Every family of models among three simulated parties against plaintext; checkpoints; parameter counts."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError
from ditto_spu.models import MODELS, encoders, llama, named_model
from tests.checkpoints.files import BERT, save, torch_weights

LIMIT = 0.03  # limit of the absolute error; logits and states here reach 0.1 to 20
TINY = [name for name in MODELS if name.endswith("-tiny")]
# Every task and nearly every family occurs here. The others are slow only because they are many.
QUICK = (
    "bert-classifier-tiny",
    "roberta-embedding-tiny",
    "vit-tiny",
    "llama-tiny",
    "t5-tiny",
    "linen-tiny",
    "nnx-tiny",
)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TINY]
)
def test_against_plaintext(name: str) -> None:
    program = named_model(name).build()
    result = ditto.secure(program.fn, public=program.public, seed=1).run(*program.args)
    expected = jax.jit(program.fn)(*program.args)
    assert jax.tree_util.tree_structure(result.outputs) == jax.tree_util.tree_structure(expected)
    for mine, plain in zip(*map(jax.tree_util.tree_leaves, (result.outputs, expected)), strict=True):
        assert mine.shape == plain.shape
        assert np.max(np.abs(mine - plain)) <= LIMIT
    assert not [row for row in result.report.rows if row.kind == "spu"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.endswith("-tiny") else pytest.mark.slow)
        for name, model in MODELS.items()
        if model.outline is not None or name.endswith("-tiny")
    ],
)
def test_parameters_are_counted(name: str) -> None:
    program = MODELS[name].shapes()
    leaves = jax.tree_util.tree_leaves(program.args[: program.weights])
    assert sum(math.prod(leaf.shape) for leaf in leaves) == MODELS[name].parameters


def test_weights_from_disk(tmp_path: Path) -> None:
    model, _ = encoders.encoder("roberta", "-classifier", tiny=True)._model()
    params = model.init_weights(jax.random.PRNGKey(7), model.input_shape)
    model.save_pretrained(tmp_path, params=params)
    program = named_model("roberta-classifier").program(tmp_path)
    for mine, saved in zip(*map(jax.tree_util.tree_leaves, (program.args[0], params)), strict=True):
        assert mine.dtype == np.float32 and np.array_equal(mine, saved)
    assert program.fn(*program.args).shape == (1, 2)
    with pytest.raises(InputError, match="lacks 2 weights of FlaxRobertaForQuestionAnswering"):
        named_model("roberta-qa").program(tmp_path)


def test_classes_of_transformers_read_torchs_weights(tmp_path: Path) -> None:
    weights = torch_weights(BERT)
    program = named_model("bert-embedding").program(save(tmp_path, BERT, weights, "BF16", shards=2))
    layer = program.args[0]["encoder"]["layer"]["1"]
    kernel = layer["intermediate"]["dense"]["kernel"]
    np.testing.assert_array_equal(kernel.T, weights["encoder.layer.1.intermediate.dense.weight"])
    assert np.asarray(program.fn(*program.args)).shape == (1, 32)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    wanted = named_model("llama-tiny")
    with pytest.raises(InputError, match=r"there is no folder or file .*nowhere: give the folder"):
        wanted.program(tmp_path / "nowhere")
    save(tmp_path, BERT, torch_weights(BERT))
    with pytest.raises(InputError, match="holds a bert, where a llama is wanted: give its path as the model"):
        wanted.program(tmp_path)
    with pytest.raises(InputError, match="does not hold a FlaxRobertaModel: it is of model_type 'bert'"):
        named_model("roberta").program(tmp_path)
    with pytest.raises(InputError, match="model 'gelu' takes no weights from disk"):
        named_model("gelu").program(tmp_path)


def test_padding_does_not_reach_what_is_kept() -> None:
    program = llama.TINY.build()
    params, ids, mask = program.args
    other = np.where(mask, ids, 49).astype(np.int32)
    first, second = (program.fn(params, each, mask) for each in (ids, other))
    np.testing.assert_allclose(first[mask == 1], second[mask == 1], atol=1e-5)
