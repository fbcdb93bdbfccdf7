"""Activations that are written in several operations: GeLU, SiLU."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, affine, binary, close, kind, polynomial, splat, whole
from ditto_spu.ir.expand_chlo import erf
from ditto_spu.ops.match import Match, factors, lies_as


def gelu(x: Array, *, approximate: str) -> Array:
    """x times the normal distribution function ("erf"), or its usual approximation by tanh."""
    if approximate == "erf":
        return 0.5 * x * (1.0 + erf(x * np.sqrt(0.5).astype(x.dtype)))
    return 0.5 * x * (1.0 + jnp.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x * x * x)))


def match_gelu(root: ir.Op) -> Match | None:
    """0.5 x erfc(-x/sqrt 2), 0.5 x (1 + erf(x/sqrt 2)) or 0.5 x (1 + tanh(...)), the factors in any order."""
    number, rest = 1.0, []
    for seen, divides in factors(whole(root.results[0])):
        constant = splat(seen.value)
        if constant is None:
            rest.append((seen, divides))
        elif divides and constant == 0:
            return None
        else:
            number = number / constant if divides else number * constant
    if len(rest) != 2 or any(divides or not lies_as(seen, root.results[0]) for seen, divides in rest):
        return None
    for (x, _), (other, _) in (rest, rest[::-1]):
        step = affine(other)
        approximate = _step(step.base, x.value)
        # 0.5 (1 + step), or the same with erfc = 1 - erf: one half of erfc(-u).
        scaled = (number * step.factor, number * step.offset)
        expected = (0.5, 0.0) if approximate == "erfc" else (0.5, 0.5)
        if (
            approximate
            and lies_as(step.base, root.results[0])
            and close(scaled[0], expected[0])
            and abs(scaled[1] - expected[1]) < 1e-3
        ):
            return Match((x.value,), {"approximate": "tanh" if approximate == "tanh" else "erf"})
    return None


def _step(seen: Seen, x: ir.Value) -> str:
    """Which smooth step of x a value is, with the argument GeLU gives it: "erf", "erfc", "tanh" or ''."""
    if seen.name not in ("erf", "erfc", "tanh") or seen.op is None:
        return ""
    argument = polynomial(seen.op.operands[0], x) or {}
    slope = math.sqrt(2 / math.pi) if seen.name == "tanh" else math.sqrt(0.5)
    wanted = {1: -slope if seen.name == "erfc" else slope}
    if seen.name == "tanh":
        wanted[3] = slope * 0.044715
    got = {power: c for power, c in argument.items() if c != 0}
    return seen.name if set(got) == set(wanted) and all(close(got[p], wanted[p]) for p in got) else ""


def silu(x: Array) -> Array:
    """x times the logistic function of x."""
    return x * jax.nn.sigmoid(x)


def match_silu(root: ir.Op) -> Match | None:
    """x * logistic(x); `simplify` has turned the ways to write the logistic function into the operation."""
    for x, step in binary(root):
        op = ir.define(step)
        if kind(op) == "logistic" and op is not None and op.operands[0] == x:
            return Match((x,))
    return None
