"""A classifier of short texts: MiniLM, the mean of its hidden states, a linear head; and the folder it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.distill.task import Examples, Split, Text
from ditto_spu.distill.weights import load_weights, save_weights
from ditto_spu.errors import InputError
from ditto_spu.models import minilm
from ditto_spu.models.named import Program

VERSION = 1
WEIGHTS, CARD = "weights.safetensors", "model.json"


@dataclass(frozen=True)
class Card:
    """What a folder says about its weights: classes in the order of the logits, tokens a text is cut or padded
    to, a few texts for calibration, and how it was made."""

    classes: tuple[str, ...]
    length: int
    texts: tuple[Text, ...]
    task: str
    config: str = ""  # that it was trained for; "" for a float model
    version: int = VERSION


def classify(params: Any, ids: Any, mask: Any) -> Any:
    """Logits [batch, classes] of token ids [batch, length]; the mask is public in a secure run."""
    import jax.numpy as jnp

    from ditto_spu.models.bert import bert_hidden

    hidden = bert_hidden(minilm.load()[0], params["encoder"], ids, mask)
    words = mask[..., None].astype(hidden.dtype)
    mean = jnp.sum(hidden * words, axis=-2) / jnp.sum(words, axis=-2)
    return mean @ params["head"]["kernel"] + params["head"]["bias"]


def initial(classes: int) -> dict[str, Any]:
    """The pretrained encoder and a head of zeros."""
    width = int(minilm.load()[0].config.hidden_size)
    head = {"kernel": np.zeros((width, classes), np.float32), "bias": np.zeros(classes, np.float32)}
    return {"encoder": minilm.load()[1], "head": head}


def tokenised(texts: Sequence[Text], length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids and mask, [texts, length] each. A pair of sentences is one text with a separator."""
    return minilm.tokenise(list(texts), length)


def examples(split: Split, length: int) -> Examples:
    """A split as arrays."""
    labels = np.asarray(split.labels, np.int32) if split.labels else None
    return Examples(tokenised(split.texts, length), labels)


def save(folder: Path, params: Any, card: Card) -> None:
    """Write weights and card."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(params, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[dict[str, Any], Card]:
    """Weights and card of a folder that `save` wrote."""
    card = load_card(folder)
    return load_weights(folder / WEIGHTS), card


def load_card(folder: Path) -> Card:
    """The card alone."""
    path = folder / CARD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise InputError(f"'{path}' has version {data['version']}: train it anew")
        texts = tuple(each if isinstance(each, str) else tuple(each) for each in data["texts"])
        return Card(tuple(data["classes"]), data["length"], texts, data["task"], data["config"])
    except OSError:
        raise InputError(
            f"'{folder}' holds no trained model (no {CARD}): make one with `ditto finetune --out {folder}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error!r}): train it anew") from None


def builder(folder: Path) -> Callable[[], Program]:
    """How to build the program of a folder: one text a call, its examples for calibration and search."""

    def build() -> Program:
        params, card = load(folder)
        calls = [(params, *tokenised([each], card.length)) for each in card.texts]
        return Program(classify, calls[0], public=("mask",), weights=1, examples=tuple(calls[1:]))

    return build
