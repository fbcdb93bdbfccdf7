"""Count the runs of small models that the guard refuses although every value stays in its range.

Run `python -m bench.guard_alarms 1000`. Each model runs on fresh random inputs like those of its calibration,
with the formats of that calibration and with those that need none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ditto_spu as ditto
from ditto_spu.errors import RangeError

_RNG = np.random.default_rng(1)
_WIDE, _NARROW = (_RNG.normal(size=size).astype(np.float32) / 5 for size in ((24, 48), (48, 24)))
_SQUARES = _RNG.normal(size=(4, 24, 24)).astype(np.float32) / 5


def _normalised(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def _feed_forward(x: jax.Array) -> jax.Array:
    return _normalised(x + jax.nn.gelu(x @ _WIDE + 0.1) @ _NARROW)


def _attention(x: jax.Array) -> jax.Array:
    q, k, v = (x @ each for each in _SQUARES[:3])
    return _normalised(x + jax.nn.softmax(q @ k.T / jnp.sqrt(24.0)) @ v @ _SQUARES[3])


def _gated(x: jax.Array) -> jax.Array:
    root = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
    turned = x * jnp.cos(jnp.arange(24.0)) + x[:, ::-1] * jnp.sin(jnp.arange(24.0))
    return jax.nn.silu(turned @ _WIDE) * (x * root @ _WIDE) @ _NARROW


def _statistics(x: jax.Array) -> jax.Array:
    spread = jnp.sqrt(x.var(-1) + 0.1)
    return jnp.stack([spread, 1 / (1 + spread), jnp.log(spread), jnp.exp(-spread), (x * x * x).sum(-1)])


MODELS: Mapping[str, Callable[[jax.Array], Any]] = {
    "feed forward": _feed_forward,
    "attention": _attention,
    "gated": _gated,
    "statistics": _statistics,
}


def main(count: int) -> None:
    rng = np.random.default_rng()
    print(f"{'model':<16}{'formats':<14}{'runs':>6}{'refused':>9}")
    each = -(-count // (2 * len(MODELS)))
    for name, fn in MODELS.items():
        seen = ditto.calibrate(fn, [(_inputs(rng),) for _ in range(8)])
        for formats, calibration in (("calibrated", seen), ("uncalibrated", None)):
            function = ditto.secure(fn, config="auto", calibration=calibration, guard=True, check=False)
            refused = sum(_is_refused(function, _inputs(rng)) for _ in range(each))
            print(f"{name:<16}{formats:<14}{each:>6}{refused:>9}", flush=True)


def _inputs(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(8, 24)).astype(np.float32)


def _is_refused(function: ditto.SecureFunction, x: np.ndarray) -> bool:
    try:
        function(x)
    except RangeError:
        return True
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
