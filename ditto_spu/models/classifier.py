"""Define a classifier of short texts: MiniLM, the mean of its hidden states, and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import ConfigSource
from ditto_spu.distill.evaluation import Evaluation, evaluate
from ditto_spu.distill.logistic_baseline import logistic_regression
from ditto_spu.distill.task import Examples, Split, Text, majority, whole_batches
from ditto_spu.models import minilm


def classify(params: Any, ids: Any, mask: Any) -> Any:
    """Return logits [batch, classes] from token ids and mask, each [batch, length].

    The mask is public in a secure run.
    """
    import jax.numpy as jnp

    from ditto_spu.models.bert import bert_hidden

    hidden = bert_hidden(minilm.load()[0], params["encoder"], ids, mask)
    words = mask[..., None].astype(hidden.dtype)
    mean = jnp.sum(hidden * words, axis=-2) / jnp.sum(words, axis=-2)
    return mean @ params["head"]["kernel"] + params["head"]["bias"]


def initial(classes: int) -> dict[str, Any]:
    """Return the pretrained encoder's weights and a head of zeros."""
    width = int(minilm.load()[0].config.hidden_size)
    head = {"kernel": np.zeros((width, classes), np.float32), "bias": np.zeros(classes, np.float32)}
    return {"encoder": minilm.load()[1], "head": head}


def tokenised(texts: Sequence[Text], length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return ids and mask, each [texts, length].

    A pair of sentences becomes one text with a separator.
    """
    return minilm.tokenise(list(texts), length)


def examples(split: Split, length: int) -> Examples:
    """Return a split as arrays, with `length` tokens per text."""
    labels = np.asarray(split.labels, np.int32) if split.labels else None
    return Examples(tokenised(split.texts, length), labels)


def accuracy(params: Any, data: Examples, batch: int = 32) -> float:
    """Return the accuracy of the float model on examples with labels."""
    return float(np.mean(_logits(params, data, batch).argmax(-1) == data.labels))


def baselines(start: Any, train: Examples, test: Examples) -> dict[str, float]:
    """Return the accuracies of two baselines on `test`.

    The first answers the commonest class of `train`. The second is a logistic regression on the means of the
    pretrained encoder's hidden states.
    """
    assert train.labels is not None
    assert test.labels is not None
    width = start["head"]["kernel"].shape[0]
    head = {"kernel": np.eye(width, dtype=np.float32), "bias": np.zeros(width, np.float32)}
    vectors = [_logits({**start, "head": head}, each, 32) for each in (train, test)]
    found = logistic_regression(vectors[0], train.labels, vectors[1])
    return {
        "commonest class": majority(test.labels.tolist(), train.labels.tolist()),
        "logistic regression on frozen embeddings": float(np.mean(found == test.labels)),
    }


def evaluated(params: Any, data: Examples, config: ConfigSource, **options: Any) -> Evaluation:
    """Evaluate the classifier with `evaluation.evaluate`."""
    return evaluate(classify, params, data, config, public=("mask",), **options)


def _logits(params: Any, data: Examples, batch: int) -> NDArray[np.float32]:
    import jax

    compiled = jax.jit(classify)
    rows = [np.asarray(compiled(params, *each.inputs))[:count] for each, count in whole_batches(data, batch)]
    return np.concatenate(rows)
