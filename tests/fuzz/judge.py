"""Judge a random program: its result under three parties is right, it is refused, or it is a fault."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import enable_x64

import ditto_spu as ditto
from ditto_spu.errors import DittoError, RangeWarning
from tests.fuzz.programs import Program, Reference, run_line

# One line may err by this much: some steps of fxp64.18 and of the tables, and a relative part of kernels.
ABSOLUTE, RELATIVE = 2.0**-12, 2.0**-10
# Activations err by the fit of their series and by rounding to its tables, as their bounds state.
ACTIVATIONS, FIT = ("tanh", "sigmoid", "gelu", "silu"), 2.0**-10
DRAWS = 8
SECONDS = 120


@dataclass(frozen=True)
class Verdict:
    """What became of a program: `right`, `refused`, `wrong`, `bare` or `hang`, with its reason.

    A program whose result comes with a RangeWarning counts as refused.
    """

    kind: str
    reason: str = ""
    in_range: bool = False


def reference(program: Program) -> Reference:
    """Compute the program in float64, and again with noise on every line.

    The noise has the size that one line may err by. So the spread of the results tells how far errors grow
    on their way, and both sides of a comparison that hangs on a rounding are seen.
    """
    random = np.random.default_rng(0)
    with enable_x64():
        exact, intermediate = _run(program, None)
        spread = np.zeros(exact.shape)
        for _ in range(DRAWS):
            drawn, _ = _run(program, random)
            with np.errstate(invalid="ignore"):  # noise may leave a function's domain: anything goes there
                apart = np.abs(drawn.astype(np.float64) - exact.astype(np.float64))
            spread = np.maximum(spread, np.nan_to_num(apart, nan=np.inf, posinf=np.inf))
    own = 0.0 if exact.dtype.kind in "bi" else ABSOLUTE + RELATIVE * np.abs(exact)
    return Reference(exact, intermediate, 4 * spread + own)


def _run(program: Program, random: np.random.Generator | None) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    values: dict[str, Any] = {}
    for name, array in zip(program.names, program.inputs, strict=True):
        values[name] = (
            _noisy(array.astype(np.float64), 2.0**-18, 0, random) if array.dtype.kind == "f" else array
        )
    for line in program.lines:
        made = run_line(line, values)
        absolute = FIT if any(f"{each}(" in line for each in ACTIVATIONS) else ABSOLUTE
        noisy = _noisy(made, absolute, RELATIVE, random) if made.dtype.kind == "f" else made
        values[line.split(" = ")[0]] = noisy
    floats = tuple(each for each in values.values() if each.dtype.kind == "f")
    return np.asarray(values[program.lines[-1].split(" = ")[0]]), floats


def _noisy(
    value: np.ndarray, absolute: float, relative: float, random: np.random.Generator | None
) -> np.ndarray:
    if random is None:
        return value
    signs = random.choice([-1.0, 1.0], value.shape)
    return np.asarray(value + signs * (absolute + relative * np.abs(value)))


def judge(program: Program) -> Verdict:
    """Run the program under the default configuration, and compare it with float64."""
    right = reference(program)
    in_range = right.within(2.0**-12, 2.0**20)
    box: list[Any] = []

    def run() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RangeWarning)
                box.append(np.asarray(ditto.secure(program.function, public=program.public)(*program.inputs)))
        except BaseException as error:  # any error at all is what the fuzzer looks for
            box.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if not box:
        return Verdict("hang", f"no result after {SECONDS} s", in_range)
    got = box[0]
    if isinstance(got, DittoError | RangeWarning):
        return Verdict("refused", f"{type(got).__name__}: {got}", in_range)
    if isinstance(got, BaseException):
        return Verdict("bare", f"{type(got).__name__}: {got}", in_range)
    if got.shape != right.value.shape:
        return Verdict("wrong", f"shape {got.shape}, expected {right.value.shape}", in_range)
    apart = np.abs(got.astype(np.float64) - right.value.astype(np.float64))
    if np.all(apart <= right.tolerance):
        return Verdict("right", "", in_range)
    return Verdict("wrong", f"got {got.tolist()}, expected {right.value.tolist()}", in_range)


def forget_compilations() -> None:
    """Free what JAX keeps of every program that it has compiled."""
    jax.clear_caches()
