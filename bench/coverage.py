"""List every StableHLO operation on secret values; `python -m bench.coverage` rewrites docs/coverage.md."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import lax

from ditto_spu import ir, secure
from ditto_spu.errors import DittoError
from ditto_spu.frontend.trace import trace

DOCUMENT = Path(__file__).parent.parent / "docs" / "coverage.md"
START, STOP = "<!-- table -->\n", "<!-- end -->"
X = np.linspace(-2.1, 1.9, 12, dtype=np.float32).reshape(3, 4)
P = np.abs(X) + 0.5
N = np.array([[3, 5, 6], [9, 12, 20]], np.int32)
M = np.array([[1, 2, 4], [8, 3, 7]], np.int32)
B = X > 0
S = X @ X.T + 2 * np.eye(3, dtype=np.float32)
I = np.array([2, 0], np.int32)  # noqa: E741  public indices


@dataclass(frozen=True)
class Example:
    """A program that JAX writes with the operation. All its arguments are secret except `public`."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = (X,)
    public: tuple[str, ...] = ()


def _while(x: Any, turns: Any) -> Any:
    return lax.while_loop(lambda s: s[0] < turns, lambda s: (s[0] + 1, s[1] * 0.5), (0, x))[1]


def _scan(x: Any) -> Any:
    return lax.scan(lambda c, row: (c * 0.5 + row, jnp.tanh(c)), jnp.zeros(4), x)


def _conv(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(
        x[None, :, :, None], w[:, :, None, None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, 0.0, lax.add, (1, 2), (1, 2), "VALID")


def _largest(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2), (1, 2), "VALID")


def _pool_gradient(x: Any) -> Any:
    return jax.grad(
        lambda y: jnp.sum(lax.reduce_window(y, -jnp.inf, lax.max, (1, 2), (1, 2), "VALID") * 0.5)
    )(x)


def _unsigned(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda n, m: fn(n.astype(jnp.uint32), m.astype(jnp.uint32)).astype(jnp.int32)


# A second example shows a difference, such as public indices or conditions known when compiling.
SUPPORTED: dict[str, tuple[Example, ...]] = {
    "abs": (Example(jnp.abs),),
    "add": (Example(lambda x, y: x + y, (X, P)),),
    "and": (Example(jnp.logical_and, (B, ~B)),),
    "atan2": (Example(jnp.arctan2, (X, P)),),
    "broadcast_in_dim": (Example(lambda x: x[:, None] + jnp.zeros((3, 2, 4))),),
    "case": (
        Example(lambda x, p: lax.cond(p > 1, jnp.tanh, lambda y: y * 2, x), (X, np.int32(2)), ("p",)),
        Example(lambda x, p: lax.switch(p, [jnp.tanh, lambda y: y * 2, jnp.negative], x), (X, np.int32(1))),
    ),
    "cbrt": (Example(jnp.cbrt),),
    "ceil": (Example(jnp.ceil),),
    "cholesky": (Example(jnp.linalg.cholesky, (S,)),),
    "clamp": (Example(lambda x: lax.clamp(-1.0, x, 1.0)),),
    "compare": (Example(lambda x, y: x < y, (X, -X)),),
    "concatenate": (Example(lambda x, y: jnp.concatenate([x, y]), (X, P)),),
    "constant": (Example(lambda x: x + np.float32(0.3)),),
    "convert": (
        Example(lambda n: n.astype(jnp.float32), (N,)),
        Example(lambda x: x.astype(jnp.int32)),
    ),
    "convolution": (Example(_conv, (X, X[:2, :2])),),
    "cosine": (Example(jnp.cos),),
    "count_leading_zeros": (Example(lax.clz, (N,)),),
    "divide": (Example(lambda x, y: x / y, (X, P)), Example(lambda x, y: x / y, (X, P), ("y",))),
    "dot_general": (
        Example(lambda x, y: jnp.einsum("ij,kj->ik", x, y), (X, P)),
        Example(lambda x, y: jnp.einsum("ij,kj->ik", x, y), (X, P), ("y",)),
    ),
    "dynamic_slice": (
        Example(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 2)), (X, np.int32(1)), ("i",)),
        Example(lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 2)), (X, np.int32(1))),
    ),
    "dynamic_update_slice": (
        Example(lambda x, y, i: lax.dynamic_update_slice(x, y, (i, 1)), (X, P[:2, :2], np.int32(1)), ("i",)),
        Example(lambda x, y, i: lax.dynamic_update_slice(x, y, (i, 1)), (X, P[:2, :2], np.int32(1))),
    ),
    "exponential": (Example(jnp.exp),),
    "exponential_minus_one": (Example(jnp.expm1),),
    "floor": (Example(jnp.floor),),
    "gather": (
        Example(lambda x, i: x[:, i], (X, I), ("i",)),
        Example(lambda x, i: jnp.take(x, i, axis=0), (X, I)),
        Example(lambda x, i: jnp.take(x, i, axis=1, mode="clip"), (X, I)),
    ),
    "iota": (Example(lambda x: x + jnp.arange(4)),),
    "is_finite": (Example(jnp.isfinite),),
    "log": (Example(jnp.log, (P,)),),
    "log_plus_one": (Example(jnp.log1p, (P,)),),
    "maximum": (Example(jnp.maximum, (X, P)), Example(jax.nn.relu)),
    "minimum": (Example(jnp.minimum, (X, P)),),
    "multiply": (Example(lambda x, y: x * y, (X, P)), Example(lambda x, y: x * y, (X, P), ("y",))),
    "negate": (Example(lambda x: -x),),
    "not": (Example(jnp.logical_not, (B,)),),
    "optimization_barrier": (Example(lambda x: lax.optimization_barrier(x * 2)),),
    "or": (Example(jnp.logical_or, (B, B)),),
    "pad": (Example(lambda x: jnp.pad(x, ((1, 0), (0, 2)), constant_values=0.5)),),
    "popcnt": (Example(lax.population_count, (N,)),),
    "power": (Example(lambda x, y: x**y, (P, X)),),
    "reduce": (
        Example(lambda x: x.sum(axis=1)),
        Example(lambda x: x.max(axis=1)),
        Example(lambda x: jnp.argmax(x, axis=1)),
        Example(lambda p: jnp.any(p, axis=1), (B,)),
    ),
    "reduce_window": (
        Example(_pool),
        Example(_largest),
    ),
    "remainder": (Example(lax.rem, (N, M)),),
    "reshape": (Example(lambda x: x.reshape(2, 6)),),
    "reverse": (Example(lambda x: x[::-1]),),
    "round_nearest_afz": (Example(lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)),),
    "round_nearest_even": (Example(jnp.round),),
    "rsqrt": (Example(lax.rsqrt, (P,)),),
    "scatter": (
        Example(lambda x, y, i: x.at[i].set(y), (X, P[:2], I), ("i",)),
        Example(lambda x, y, i: x.at[i].add(y), (X, P[:2], I), ("i",)),
        Example(lambda x, y, i: x.at[i].set(y), (X, P[:2], I)),
        Example(lambda x, i: x.at[jnp.arange(2), i].add(1.0), (X, I)),
    ),
    "select": (
        Example(lambda p, x, y: jnp.where(p, x, y), (B, X, P), ("p",)),
        Example(lambda p, x, y: jnp.where(p, x, y), (B, X, P)),
    ),
    "select_and_scatter": (Example(_pool_gradient),),
    "shift_left": (Example(lambda n: n << 2, (N,)),),
    "shift_right_arithmetic": (Example(lambda n: n >> 1, (N,)),),
    "shift_right_logical": (Example(_unsigned(lambda n, m: n >> 2), (N, M)),),
    "sign": (Example(jnp.sign),),
    "sine": (Example(jnp.sin),),
    "slice": (Example(lambda x: lax.slice(x, (1, 0), (3, 4), (1, 2))),),
    "sort": (Example(lambda x: jnp.sort(x, axis=1)),),
    "sqrt": (Example(jnp.sqrt, (P,)),),
    "subtract": (Example(lambda x, y: x - y, (X, P)),),
    "tan": (Example(lambda x: jnp.tan(0.5 * x)),),
    "tanh": (Example(jnp.tanh),),
    "transpose": (Example(lambda x: x.T),),
    "triangular_solve": (Example(lambda s, x: jsl.solve_triangular(s, x, lower=True), (S, X)),),
    "while": (
        Example(_scan),
        Example(_while, (X, np.int32(3)), ("turns",)),
    ),
    "xor": (Example(jnp.logical_xor, (B, ~B)),),
}

# These are refused. Each has a program for which JAX writes the operation on values that can be shared.
REFUSED: dict[str, Example] = {
    "bitcast_convert": Example(lambda x: lax.bitcast_convert_type(x, jnp.int32)),
    "complex": Example(lambda x: lax.abs(lax.complex(x, x))),
    "custom_call": Example(lambda x: jnp.linalg.eigvalsh(x @ x.T)),
    "fft": Example(lambda x: jnp.fft.rfft(x).real),
    "reduce_precision": Example(lambda x: lax.reduce_precision(x, 8, 7)),
    "rng_bit_generator": Example(
        lambda n: lax.rng_bit_generator(n, (3,))[1], (np.arange(4, dtype=np.uint32),)
    ),
}

# JAX writes none of these for one device and static shapes. They are grouped by the reason.
UNWRITTEN: dict[str, str] = {
    "one device, no tokens": """after_all all_gather all_reduce all_to_all collective_broadcast
    collective_permute create_token cross-replica-sum infeed outfeed partition_id recv reduce_scatter
    replica_id send""",
    "shapes are static": """dynamic_broadcast_in_dim dynamic_conv dynamic_gather dynamic_iota dynamic_pad
    dynamic_reshape get_dimension_size real_dynamic_slice set_dimension_size""",
    "JAX writes it with other operations": """batch_norm_grad batch_norm_inference batch_norm_training
    broadcast dot einsum get_tuple_element if logistic map rng torch_index_select
    tuple unary_einsum""",
    "part of complex numbers": "imag real",
    "quantised types cannot be shared": "uniform_dequantize uniform_quantize",
    "part of regions, or of this compiler": "composite return",
}


def steps(example: Example) -> str:
    """Return the kinds of step that the example compiles to, without casts, and its public arguments."""
    lowered = secure(example.fn, public=example.public).lower(*example.args)
    kinds = dict.fromkeys(row.kind for row in lowered.cost_analysis().rows)
    shown = [kind for kind in kinds if kind not in ("public", "cast")]
    public = f" (`{', '.join(example.public)}` public)" if example.public else ""
    return ", ".join(shown or ["local"]) + public


def error(example: Example) -> str:
    """Return the compiler's message without its place."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            secure(example.fn, public=example.public).lower(*example.args)
    except DittoError as refusal:
        return str(refusal).partition("): ")[2]
    raise AssertionError("it compiles: list it as supported")


def operations(example: Example) -> set[str]:
    """Return the StableHLO operations in the traced program."""
    module = ir.parse(trace(example.fn, example.args, public=example.public).module_text)
    return {op.name.removeprefix("stablehlo.") for op in ir.walk(module.operation)}


def table() -> str:
    """Return the rows of the document."""
    lines = ["| operation | secret operands | example compiles to |", "|---|---|---|"]
    rows: dict[str, tuple[str, str]] = {}
    for name, examples in SUPPORTED.items():
        rows[name] = "yes", "; ".join(map(steps, examples))
    for name, example in REFUSED.items():
        rows[name] = "refused", error(example).replace("|", "\\|")
    for reason, names in UNWRITTEN.items():
        rows |= dict.fromkeys(names.split(), ("never met", reason))
    return "\n".join([*lines, *(f"| `{name}` | {' | '.join(rows[name])} |" for name in sorted(rows))]) + "\n"


def rewritten(document: str) -> str:
    """Return the document with the table that the compiler gives now."""
    before, after = document.index(START) + len(START), document.index(STOP)
    return document[:before] + table() + document[after:]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text()))
