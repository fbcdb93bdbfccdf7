"""Define the kernels to measure alone, at BERT-base sizes and in the formats of configuration `ditto`.

Each case also has the same function in JAX, for stock SPU. Kernels without a counterpart there have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Fxp

Operand = tuple[NDArray[Any], Fxp]
_CHOICES = 100_000  # elements of a comparison, a choice and a magnitude
_DOT = (((1,), (0,)), ((), ()))
_FXP = Fxp.parse


@dataclass(frozen=True)
class KernelCase:
    """One kernel on shared operands: `KERNELS[kernel].run(*operands, out=out, **attributes)`.

    SPU runs `function` on the same arrays, and SPU's errors are measured against it. It may take constants
    that our kernel does not need (`truncate`), or be None.
    """

    name: str
    kernel: str
    operands: tuple[Operand, ...]
    out: Fxp
    function: Callable[..., Any] | None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return tuple(array for array, _ in self.operands)

    @property
    def formats(self) -> str:
        return f"{' '.join(str(fxp) for _, fxp in self.operands)} -> {self.out}"


def _normal(shape: tuple[int, ...], fxp: str, scale: float = 1.0, seed: int = 0) -> Operand:
    draw = np.random.default_rng(seed).standard_normal(shape)
    return (scale * draw).astype(np.float32), _FXP(fxp)


def _uniform(shape: tuple[int, ...], fxp: str, low: float, high: float) -> Operand:
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32), _FXP(fxp)


def _layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-12) * gamma + beta


def _rms_norm(x: Any, gamma: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gamma


def _choices(count: int) -> tuple[KernelCase, ...]:
    """Return comparison, choice and magnitude of so many numbers of ring 32."""
    x, y = (
        (np.rint(256 * array) / 256, fxp)  # a grid of all sides, so that rounding decides no comparison
        for array, fxp in (_normal((count,), "fxp32.12", 4.0, seed) for seed in (0, 1))
    )
    bits = np.random.default_rng(2).random(count) < 0.5
    narrow = _FXP("fxp8.0")  # what the compiler takes for booleans that are outputs
    return (
        KernelCase("compare", "compare", (x, y), narrow, jnp.less, {"direction": "LT"}),
        KernelCase("select", "select", ((bits, _FXP("fxp64.0")), x, y), _FXP("fxp32.12"), jnp.where),
        KernelCase("abs", "abs", (x,), _FXP("fxp32.12"), jnp.abs),
    )


def kernel_cases(small: bool = False) -> tuple[KernelCase, ...]:
    """Return all cases, in the order of the table. The small ones are for a quick look."""
    tokens, wide, heads = (16, 512, 2) if small else (128, 3072, 12)
    vocabulary, width, ids = (512, 64, 4) if small else (30522, 384, 32)
    hidden = wide // 4
    flat, scores = (tokens, wide), (heads, tokens, tokens)
    reciprocals = (heads * tokens,)
    gamma = (1 + _normal((hidden,), "fxp32.14", 0.1, 1)[0]).astype(np.float32)
    indices = np.random.default_rng(1).integers(0, vocabulary, ids).astype(np.int32)
    return (
        KernelCase(
            "matmul",
            "matmul",
            (_normal((tokens, hidden), "fxp32.11"), _normal((hidden, wide), "fxp32.14", 0.02, 1)),
            _FXP("fxp32.11"),
            jnp.matmul,
            {"dims": _DOT},
        ),
        KernelCase(
            "matmul, narrow",
            "matmul",
            (_normal((tokens, hidden), "fxp32.11"), _normal((hidden, wide), "fxp32.14", 0.02, 1)),
            _FXP("fxp16.9"),
            None,
            {"dims": _DOT},
        ),
        KernelCase(
            "multiply",
            "multiply",
            (_normal(flat, "fxp32.11"), _normal(flat, "fxp32.11", seed=1)),
            _FXP("fxp32.11"),
            jnp.multiply,
        ),
        KernelCase("truncate", "cast", (_normal(flat, "fxp32.22"),), _FXP("fxp32.11"), lambda x: x * 0.3),
        KernelCase("upcast", "cast", (_normal(flat, "fxp16.9"),), _FXP("fxp32.9"), None),
        KernelCase(
            "maximum",
            "maximum",
            (_normal(flat, "fxp16.9"), _normal(flat, "fxp16.9", seed=1)),
            _FXP("fxp16.9"),
            jnp.maximum,
        ),
        KernelCase(
            "reduce_max",
            "reduce_max",
            (_normal(scores, "fxp16.6", 2.0),),
            _FXP("fxp16.6"),
            lambda x: jnp.max(x, axis=-1),
            {"dim": -1},
        ),
        KernelCase(
            "argmax",
            "argmax",
            (_normal((1, 512 if small else 50257), "fxp16.7", 4.0),),
            _FXP("fxp32.0"),
            lambda x: jax.nn.one_hot(jnp.argmax(x, axis=-1), x.shape[-1]),
            {"dim": -1},
        ),
        *_choices(1000 if small else _CHOICES),
        KernelCase(
            "exp",
            "exponential",
            (_uniform(scores, "fxp16.9", -8, 0),),
            _FXP("fxp32.14"),
            jnp.exp,
            {"hi": 0.0},
        ),
        KernelCase(
            "reciprocal",
            "reciprocal",
            (_uniform(reciprocals, "fxp32.12", 1, 128),),
            _FXP("fxp32.18"),
            lambda x: 1 / x,
            {"lo": 0.9, "hi": 130.0},
        ),
        KernelCase(
            "rsqrt", "rsqrt", (_uniform((tokens,), "fxp32.14", 0.1, 100),), _FXP("fxp32.14"), jax.lax.rsqrt
        ),
        KernelCase(
            "gelu",
            "gelu",
            (_normal(flat, "fxp16.9", 2.0),),
            _FXP("fxp32.11"),
            lambda x: jax.nn.gelu(x, approximate=False),
        ),
        KernelCase("tanh", "tanh", (_normal(flat, "fxp16.9", 2.0),), _FXP("fxp32.11"), jnp.tanh),
        KernelCase("sigmoid", "sigmoid", (_normal(flat, "fxp16.9", 2.0),), _FXP("fxp32.11"), jax.nn.sigmoid),
        KernelCase("silu", "silu", (_normal(flat, "fxp16.9", 2.0),), _FXP("fxp32.11"), jax.nn.silu),
        KernelCase(
            "softplus", "softplus", (_normal(flat, "fxp16.9", 2.0),), _FXP("fxp32.11"), jax.nn.softplus
        ),
        KernelCase("mish", "mish", (_normal(flat, "fxp16.9", 2.0),), _FXP("fxp32.11"), jax.nn.mish),
        KernelCase(
            "softmax",
            "softmax",
            (_normal(scores, "fxp16.6", 2.0),),
            _FXP("fxp32.14"),
            lambda x: jax.nn.softmax(x, axis=-1),
        ),
        KernelCase(
            "layer_norm",
            "layer_norm",
            (
                _normal((tokens, hidden), "fxp32.11"),
                (gamma, _FXP("fxp32.14")),
                _normal((hidden,), "fxp32.14", 0.1, 2),
            ),
            _FXP("fxp32.11"),
            _layer_norm,
        ),
        KernelCase(
            "rms_norm",
            "rms_norm",
            (_normal((tokens, hidden), "fxp32.14"), (gamma, _FXP("fxp32.14"))),
            _FXP("fxp32.11"),
            _rms_norm,
        ),
        KernelCase(
            "embedding",
            "embedding",
            (_normal((vocabulary, width), "fxp32.11", 0.02), (indices, _FXP("fxp64.0"))),
            _FXP("fxp32.11"),
            lambda table, index: jnp.take(table, index, axis=0),
        ),
    )
