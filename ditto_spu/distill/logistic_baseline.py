"""Fit logistic regression on frozen embeddings, a baseline that training has to beat.

The other baseline is the commonest class (`task.majority`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ditto_spu.errors import InputError

Vectors = NDArray[np.float32]


def logistic_regression(
    train: Vectors, labels: NDArray[np.int32], test: Vectors, *, decay: float = 1e-3, steps: int = 300
) -> NDArray[np.int64]:
    """Return the classes of the test vectors [count, width] by a linear classifier.

    The classifier has an L2 penalty of weight `decay` and is fitted by L-BFGS. All vectors are standardised
    with the mean and spread of the training vectors. Raises InputError if the counts of vectors and labels
    differ.
    """
    if len(train) != len(labels):
        raise InputError(f"{len(train)} vectors have {len(labels)} labels")
    mean, spread = train.mean(0), train.std(0) + 1e-6
    x, goal = jnp.asarray((train - mean) / spread), jnp.asarray(labels)
    first = {"w": jnp.zeros((x.shape[1], int(labels.max()) + 1)), "b": jnp.zeros(int(labels.max()) + 1)}

    def loss(at: dict[str, jax.Array]) -> jax.Array:
        hard = optax.softmax_cross_entropy_with_integer_labels(x @ at["w"] + at["b"], goal)
        return jnp.mean(hard) + decay * jnp.sum(at["w"] ** 2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    @jax.jit
    def fitted(at: dict[str, jax.Array]) -> dict[str, jax.Array]:
        def step(_: int, carried: tuple[dict[str, jax.Array], optax.OptState]) -> tuple:
            at, state = carried
            value, slope = value_and_grad(at, state=state)
            updates, state = solver.update(slope, state, at, value=value, grad=slope, value_fn=loss)
            return optax.apply_updates(at, updates), state

        return jax.lax.fori_loop(0, steps, step, (at, solver.init(at)))[0]

    found = jax.device_get(fitted(first))
    return np.asarray(((test - mean) / spread) @ found["w"] + found["b"]).argmax(-1)
