"""Train the diffusion model of digits, and the classifier that judges it, on scikit-learn's digits.

Run `python -m ditto_spu.demos.train_digits --out digits.safetensors`. It takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ditto_spu.architectures.unet import initial
from ditto_spu.errors import DittoError, InputError
from ditto_spu.models import digits

STEPS, JUDGE_STEPS, BATCH = 6000, 1500, 64
_UNLABELLED = 0.1  # of the pictures are learnt without their class, which guidance needs
_DECAY = 0.997  # of the running mean of the weights
_LAST = 1e-4  # the last learning rate, of the first one of 2e-3
_HELD_OUT = 297  # pictures on which the classifier is tested


def pictures() -> tuple[Any, Any]:
    """Return the digits [1797, 8, 8, 1] from -1 to 1, and their classes.

    Raises InputError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("training needs the digits of scikit-learn: pip install scikit-learn") from None
    found = load_digits()
    scaled = found.images[..., None].astype(np.float32) / 8 - 1
    order = np.random.default_rng(0).permutation(len(scaled))
    return scaled[order], found.target[order].astype(np.int32)


def _batches(x: Any, y: Any, steps: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    rng, key = np.random.default_rng(seed), jax.random.PRNGKey(seed)
    for step in range(steps):
        chosen = rng.integers(0, len(x), BATCH)
        yield x[chosen], y[chosen], jax.random.fold_in(key, step)


def _trained(loss: Callable[..., Any], params: Any, x: Any, y: Any, steps: int, name: str) -> Any:
    """Minimise loss(params, x, y, key), and return the running mean of the weights."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 200, steps, _LAST)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    @jax.jit
    def step(params: Any, mean: Any, state: Any, x: Any, y: Any, key: Any) -> tuple[Any, ...]:
        value, gradient = jax.value_and_grad(loss)(params, x, y, key)
        change, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, change)
        mean = jax.tree_util.tree_map(lambda a, b: _DECAY * a + (1 - _DECAY) * b, mean, params)
        return params, mean, state, value

    mean, state, values, started = params, optimiser.init(params), [], time.perf_counter()
    for number, (a, b, key) in enumerate(_batches(x, y, steps, seed=1), 1):
        params, mean, state, value = step(params, mean, state, a, b, key)
        values.append(value)
        if number % 500 == 0 or number == steps:
            recent = float(np.mean([float(each) for each in values[-500:]]))
            seconds = time.perf_counter() - started
            print(f"{name}: step {number} of {steps}, loss {recent:.4f}, {seconds:.0f} s", flush=True)
    return jax.device_get(mean)


def train_unet(x: Any, y: Any, steps: int) -> Any:
    """Return the weights of the diffusion model of pictures x and their classes y."""
    unet, signal = digits.unet(), jnp.asarray(digits.SCHEDULE.signal, jnp.float32)

    def predict(params: Any, x: Any, times: Any, labels: Any) -> Any:
        table = unet.apply({"params": params}, times, method=unet.conditions)  # [batch, labels, features]
        rows = jnp.eye(len(x)).reshape(len(x), len(x), 1) * labels[:, None]  # of every picture's own time
        return unet.apply({"params": params}, x, table.reshape(-1, table.shape[-1]), rows.reshape(len(x), -1))

    def loss(params: Any, x: Any, y: Any, key: Any) -> Any:
        keys = jax.random.split(key, 3)
        times = jax.random.randint(keys[0], (len(x),), 0, digits.SCHEDULE.length)
        noise = jax.random.normal(keys[1], x.shape)
        known = jax.random.uniform(keys[2], (len(x),)) >= _UNLABELLED
        labels = jax.nn.one_hot(jnp.where(known, y, digits.CLASSES), digits.CLASSES + 1)
        left = signal[times][:, None, None, None]
        noisy = jnp.sqrt(left) * x + jnp.sqrt(1 - left) * noise
        return jnp.mean((predict(params, noisy, times, labels) - noise) ** 2)

    return _trained(loss, initial(unet, digits.SIZE), x, y, steps, "diffusion model")


def train_judge(x: Any, y: Any, steps: int) -> Any:
    """Return the weights of the classifier. It sees pictures with a little noise, too."""
    judge = digits.judge()

    def loss(params: Any, x: Any, y: Any, key: Any) -> Any:
        noisy = x + 0.2 * jax.random.normal(key, x.shape)
        logits = judge.apply({"params": params}, noisy)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    params = judge.init(jax.random.PRNGKey(2), x[:1])["params"]
    return _trained(loss, params, x, y, steps, "classifier")


def main(arguments: list[str] | None = None) -> None:
    """Train both models and write their weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=digits.WEIGHTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--judge-steps", type=int, default=JUDGE_STEPS)
    options = parser.parse_args(arguments)
    x, y = pictures()
    judge = train_judge(x[_HELD_OUT:], y[_HELD_OUT:], options.judge_steps)
    right = float(np.mean(digits.classes_of(judge, x[:_HELD_OUT]) == y[:_HELD_OUT]))
    print(f"classifier: {right:.1%} of {_HELD_OUT} digits that it was not trained on")
    digits.save(train_unet(x, y, options.steps), judge, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    try:
        main()
    except DittoError as error:
        sys.exit(f"ditto: {error}")
