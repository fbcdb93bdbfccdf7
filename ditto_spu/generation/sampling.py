"""Choose the next token at a client that sees the logits, locally and with its own randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError, require_finite, require_seed, require_whole


@dataclass(frozen=True)
class Sampling:
    """A draw among the likeliest tokens, by softmax(logits / temperature). The default is greedy.

    top_k: from how many tokens; 1 is greedy, and None is all.
    top_p: the draw is from the fewest likeliest tokens whose probabilities sum to at least this much.
    seed: seed of the client's own generator. If None, the system supplies one. It decides the choice alone.
    """

    top_k: int | None = 1
    temperature: float = 1.0
    seed: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        require_finite(temperature=self.temperature, top_p=self.top_p)
        require_seed(self.seed)
        if self.top_k is not None:
            require_whole(top_k=self.top_k)
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}: it counts tokens, from 1 (greedy)")
        if not 0 < self.top_p <= 1:
            raise InputError(
                f"top_p is {self.top_p:g}: it is a probability above 0, and 1 leaves no token out"
            )
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature:g}: it is positive; top_k=1 is greedy")

    @property
    def draws(self) -> bool:
        """Whether the choice is random, and so other than the likeliest token."""
        return self.top_k != 1

    def generator(self) -> np.random.Generator:
        """Return the client's randomness for one text."""
        return np.random.default_rng(self.seed)

    def choose(self, logits: Any, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose token ids [batch] from logits [batch, vocabulary]."""
        values = np.asarray(logits, np.float64)
        if not self.draws:
            return np.argmax(values, axis=-1)
        count = min(self.top_k or values.shape[-1], values.shape[-1])
        likeliest = np.argsort(-values, axis=-1, kind="stable")[:, :count]
        sorted_values = np.take_along_axis(values, likeliest, axis=-1)
        with np.errstate(over="ignore"):  # the least temperatures make differences infinite, and weights 0
            weights = np.exp((sorted_values - sorted_values[:, :1]) / self.temperature)
        weights /= weights.sum(axis=-1, keepdims=True)
        if self.top_p < 1:
            weights[np.cumsum(weights, axis=-1) - weights >= self.top_p] = 0.0
            weights /= weights.sum(axis=-1, keepdims=True)
        drawn = [rng.choice(row, p=weight) for row, weight in zip(likeliest, weights, strict=True)]
        return np.asarray(drawn, np.int64)


GREEDY = Sampling()
