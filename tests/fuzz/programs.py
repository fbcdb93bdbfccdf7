"""Random programs of jnp operations, written as Python source with their inputs.

A program is a list of lines, each of which makes one value from earlier ones. The generator runs every line
in float64 as it writes it, so that it knows shapes and values and writes no line that JAX refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.experimental import enable_x64

SHAPES = ((), (1,), (3,), (2, 3), (3, 3), (1, 5), (7,), (2, 1, 3), (0, 3))
SCALES = (2.0**-6, 0.25, 1.0, 1.0, 1.0, 8.0, 100.0, 3000.0)
LARGEST = 2.0**24  # of intermediate values: beyond it a program has little to tell but refusals

# Templates of lines. x and y are floats, i and j integers, b and c booleans. `$n` is a small number.
LINES = (
    # elementwise
    *("{x} + {y}", "{x} - {y}", "{x} * {y}", "{x} / {y}", "-{x}", "{x} * 0.25", "1.0 / {x}", "{x} ** 2"),
    *("jnp.abs({x})", "jnp.sign({x})", "jnp.maximum({x}, {y})", "jnp.minimum({x}, {y})"),
    *("jnp.clip({x}, -2.0, 3.0)", "jnp.floor({x})", "jnp.ceil({x})", "jnp.round({x})"),
    *("jnp.sqrt(jnp.abs({x}))", "jax.lax.rsqrt(jnp.abs({x}) + 0.1)", "jnp.exp(-jnp.abs({x}))"),
    *("jnp.exp({x})", "jnp.log1p(jnp.abs({x}))", "jnp.log(jnp.abs({x}) + 0.1)"),
    *("jnp.sin({x})", "jnp.cos({x})", "jnp.arctan({x})", "jnp.arctan2({x}, {y})", "jnp.cbrt({x})"),
    *("jnp.arcsinh({x})", "jnp.arcsin(jnp.clip({x}, -1.0, 1.0))", "jnp.sinh(jnp.clip({x}, -8.0, 8.0))"),
    *("(jnp.abs({x}) + 0.1) ** 1.5", "(jnp.abs({x}) + 0.1) ** jnp.clip({y}, -2.0, 2.0)", "{x} % 1.5"),
    *("jax.lax.erf({x})", "jnp.copysign({x}, {y})", "jnp.hypot({x}, {y})"),
    # activations, normalisations, softmax
    *("jnp.tanh({x})", "jax.nn.sigmoid({x})", "jax.nn.relu({x})", "jax.nn.gelu({x})", "jax.nn.silu({x})"),
    *("jax.nn.softplus({x})", "jax.nn.softmax({x})", "jax.nn.log_softmax({x})", "jax.nn.elu({x})"),
    "({x} - {x}.mean(-1, keepdims=True)) / jnp.sqrt({x}.var(-1, keepdims=True) + 1e-3)",
    "{x} * jax.lax.rsqrt(jnp.mean({x} * {x}, -1, keepdims=True) + 1e-3)",
    # reductions, products
    *(
        "{x}.sum()",
        "{x}.sum(-1)",
        "{x}.mean(-1)",
        "{x}.max(-1)",
        "{x}.min()",
        "{x}.var(-1)",
        "jnp.cumsum({x}, -1)",
    ),
    *("{x} @ {y}", "{x} @ {y}.T", "jnp.einsum('...i,...i->...', {x}, {y})", "jnp.outer({x}, {y})"),
    # layout and indexing
    *(
        "{x}.T",
        "{x}.reshape(-1)",
        "{x}[..., ::-1]",
        "{x}[..., :2]",
        "{x}[0]",
        "jnp.concatenate([{x}, {y}], -1)",
    ),
    *("jnp.stack([{x}, {y}])", "jnp.pad({x}, 1)", "jnp.roll({x}, 1, -1)", "jnp.repeat({x}, 2, -1)"),
    *("jnp.expand_dims({x}, 0)", "jnp.tile({x}, 2)", "{x}.at[..., 0].set(0.5)"),
    # comparisons, choice, order
    *("{x} > {y}", "{x} <= 0.5", "{x} == {y}", "jnp.where({b}, {x}, {y})", "jnp.where({x} > 0, {x}, {y})"),
    *("jnp.sort({x}, -1)", "jnp.argmax({x}, -1)", "jnp.argsort({x}, -1)"),
    # booleans and integers
    *("{b} & {c}", "{b} | {c}", "~{b}", "jnp.any({b})", "jnp.all({b}, -1)", "{b}.astype(jnp.float32)"),
    *("{i} + {j}", "{i} * {j}", "{i} - 3", "jnp.maximum({i}, {j})", "{i} > {j}", "{i}.sum()", "{i} == 2"),
    *("{i}.astype(jnp.float32)", "jnp.abs({i})", "{b}.astype(jnp.int32)"),
    *("{i} & {j}", "{i} ^ 5", "{i} >> 1", "~{i}", "jax.lax.clz(jnp.int32({i}))", "{i} // 3", "{i} % 4"),
)
KINDS = {"x": "f", "y": "f", "i": "i", "j": "i", "b": "b", "c": "b"}


@dataclass(frozen=True)
class Program:
    """A random program.

    names: its parameters, in order.
    inputs: their arrays.
    public: the names of the public ones.
    lines: its values, `v0 = ...` and so on. The last one is the result.
    """

    names: tuple[str, ...]
    inputs: tuple[np.ndarray, ...]
    public: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def source(self) -> str:
        body = "\n".join(f"    {each}" for each in self.lines)
        result = self.lines[-1].split(" = ")[0]
        return f"def program({', '.join(self.names)}):\n{body}\n    return {result}\n"

    @property
    def function(self) -> Callable[..., Any]:
        space: dict[str, Any] = {"jax": jax, "jnp": jnp}
        exec(self.source, space)
        return space["program"]

    def __repr__(self) -> str:
        """Return Python that runs the program under three parties."""
        inputs = ", ".join(
            f"np.array({each.tolist()}, np.{each.dtype}).reshape({each.shape})" for each in self.inputs
        )
        return (
            "import jax, jax.numpy as jnp, numpy as np, ditto_spu as ditto\n"
            f"{self.source}print(ditto.secure(program, public={self.public})({inputs}))\n"
        )


@dataclass(frozen=True)
class Reference:
    """What a program gives in float64.

    value: its result.
    intermediate: all values but booleans and integers of its lines and inputs.
    tolerance: the error, element by element, that the resolution of formats may cause.
    """

    value: np.ndarray
    intermediate: tuple[np.ndarray, ...]
    tolerance: np.ndarray

    def within(self, least: float, largest: float) -> bool:
        """Tell whether every value is 0 or has a magnitude between these bounds."""
        sizes = np.concatenate([np.abs(each).ravel() for each in self.intermediate] or [np.zeros(0)])
        return bool(np.all((sizes == 0) | ((sizes >= least) & (sizes <= largest))))


def run_line(line: str, values: dict[str, Any]) -> Any:
    """Return the value of one line in float64, as numpy."""
    expression = line.split(" = ", 1)[1].replace("jnp.float32", "jnp.float64")
    return np.asarray(
        eval(expression, {"jax": jax, "jnp": jnp}, {k: jnp.asarray(v) for k, v in values.items()})
    )


@st.composite
def programs(draw: Any, most_lines: int = 6) -> Program:
    """Draw a program of up to `most_lines` lines."""
    chosen = draw(st.integers(0, 2**64 - 1)), draw(st.integers(1, 3)), draw(st.integers(1, most_lines))
    _, arguments, wanted = chosen
    random = np.random.default_rng(chosen)  # hypothesis repeats single choices, and all of them make the seed
    values: dict[str, np.ndarray] = {}
    kept: dict[str, np.ndarray] = {}
    shape = SHAPES[random.integers(len(SHAPES))]
    for name in "pqr"[:arguments]:
        kept[name] = _array(random, shape if random.random() < 0.7 else SHAPES[random.integers(len(SHAPES))])
        values[name] = kept[name].astype(np.float64) if kept[name].dtype == np.float32 else kept[name]
    public = tuple(name for name in kept if name != "p" and random.random() < 0.3)
    lines: list[str] = []
    with enable_x64():
        for _ in range(60):
            if len(lines) == wanted:
                break
            line = _line(random, values, f"v{len(lines)}")
            made = None if line is None else _made(line, values)
            if line is not None and made is not None:
                lines.append(line)
                values[line.split(" = ")[0]] = made
    if not lines:
        lines.append("v0 = p")
    return Program(tuple(kept), tuple(kept.values()), public, tuple(lines))


def _array(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    kind = random.choice(["f", "f", "f", "f", "i", "b"])
    if kind == "b":
        return random.random(shape) < 0.5
    if kind == "i":
        return random.integers(-9, 10, shape).astype(np.int32)
    drawn = random.normal(size=shape) * SCALES[random.integers(len(SCALES))]
    return np.asarray(np.round(drawn) if random.random() < 0.2 else drawn, np.float32)


def _line(random: np.random.Generator, values: dict[str, np.ndarray], name: str) -> str | None:
    template = LINES[random.integers(len(LINES))]
    chosen = {}
    for place, kind in KINDS.items():
        if f"{{{place}}}" in template:
            fitting = [key for key, value in values.items() if value.dtype.kind == kind]
            if not fitting:
                return None
            recent = min(2, len(fitting))
            chosen[place] = random.choice(fitting[-recent:] if random.random() < 0.6 else fitting)
    return f"{name} = {template.format(**chosen)}"


def _made(line: str, values: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return the line's value, or None for a line that JAX refuses or whose value says nothing."""
    try:
        made = run_line(line, values)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    if made.size > 300 or not np.all(np.isfinite(made)) or np.any(np.abs(made.astype(np.float64)) > LARGEST):
        return None
    return made
