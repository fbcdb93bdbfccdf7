"""Describe a classification task as labelled texts in three splits, and as arrays of training examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError

Text = str | tuple[str, str]  # a sentence, or a pair of them


@dataclass(frozen=True)
class Split:
    """Texts and the numbers of their classes.

    There are no labels if the texts serve only for imitation.
    """

    texts: tuple[Text, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Task:
    """A task with named classes and fixed splits. `source` says where the texts come from."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    source: str


@dataclass(frozen=True)
class Examples:
    """Arrays of a function's inputs, each [count, ...], and labels [count] or None.

    Raises InputError if the counts differ.
    """

    inputs: tuple[NDArray[np.generic], ...]
    labels: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        counts = {len(each) for each in self.inputs}
        if self.labels is not None:
            counts.add(len(self.labels))
        if len(counts) != 1:
            raise InputError(f"examples have one first dimension, not {sorted(counts)}: one row an example")

    def __len__(self) -> int:
        return len(self.inputs[0])

    def rows(self, chosen: NDArray[np.intp] | slice) -> Examples:
        """Return the chosen examples."""
        labels = None if self.labels is None else self.labels[chosen]
        return Examples(tuple(each[chosen] for each in self.inputs), labels)

    def head(self, count: int) -> Examples:
        """Return the first `count` examples."""
        return self.rows(slice(0, count))


def batch_at(data: Examples, step: int, batch: int, seed: int) -> Examples:
    """Return the batch of a step.

    Every epoch is a permutation that depends on the seed and the epoch alone. Raises InputError if there are
    fewer examples than `batch`.
    """
    if batch > len(data):
        raise InputError(f"a batch of {batch} needs as many examples, but there are {len(data)}")
    epoch, place = divmod(step, len(data) // batch)
    order = np.random.default_rng((seed, epoch)).permutation(len(data))
    return data.rows(order[place * batch : (place + 1) * batch])


def whole_batches(data: Examples, batch: int) -> Iterator[tuple[Examples, int]]:
    """Yield all examples in order, in batches of one size, each with the number of examples that count.

    The last batch is filled up with copies of the last example.
    """
    for start in range(0, len(data), batch):
        chosen = np.arange(start, start + batch)
        yield data.rows(np.minimum(chosen, len(data) - 1)), min(batch, len(data) - start)


def majority(labels: Sequence[int], among: Sequence[int]) -> float:
    """Return the accuracy on `labels` of always answering the commonest class of `among`."""
    commonest = np.bincount(np.asarray(among)).argmax()
    return float(np.mean(np.asarray(labels) == commonest))
