"""The compiled program: plain, printable, picklable data that every party executes step by step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ditto_kernels.values.formats import Fxp

ELEMENT = 1 << 6  # multiplications that take as long as an element of a kernel that is no product
_PRODUCTS = ("matmul", "matmul_public", "matmul_adapted")  # of the first two operands, above all
Attributes = tuple[tuple[str, object], ...]
INTEGER = Fxp(64, 0)  # of shared integers and booleans
SPU_FORMAT = Fxp(64, 18)  # of every value that a step of SPU reads or makes


@dataclass(frozen=True)
class Var:
    """A value: shared in format `fxp`, or public (fxp None). Shared integers and booleans are fxp64.0."""

    shape: tuple[int, ...]
    dtype: str  # as the user's program has it
    fxp: Fxp | None
    path: str = ""
    range: float | None = None  # declared: |value| <= range

    def __str__(self) -> str:
        kind = str(self.fxp) if self.fxp is not None else f"public {self.dtype}"
        return f"{kind}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class PublicStep:
    """Operations on public values alone, in plaintext, alike at every party."""

    path: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class LocalInput:
    """How a linear step uses a value: `share`; public as `affine` (in component 0), `factor` or `plain`."""

    var: int
    use: str
    fxp: Fxp | None = None  # in which a public affine or factor operand is encoded


@dataclass(frozen=True)
class LocalStep:
    """Linear and layout operations, retyped to ring integers and run on each component: no communication."""

    path: str
    text: str
    inputs: tuple[LocalInput, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class KernelStep:
    """One kernel; each of `dealers` deals the correlated randomness of an equal part of it."""

    path: str
    kernel: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]  # one
    attributes: Attributes
    dealers: tuple[int, ...]


@dataclass(frozen=True)
class SpuStep:
    """Any other operations: an executable of SPU's ABY3 FM64 runtime."""

    path: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Step = PublicStep | LocalStep | KernelStep | SpuStep


@dataclass(frozen=True)
class Input:
    """One array of the user's call; `made`: a digest of how its owner makes it of arrays, '' if it is one."""

    path: str
    var: int
    made: str = ""


@dataclass(frozen=True)
class Plan:
    """What three parties execute. In `str(plan)` a | marks a step that shares rounds with the one above."""

    name: str
    config: str
    vars: tuple[Var, ...]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...]  # numbers of steps; the kernels of one stage share rounds
    mask_dealer: int | None = None  # whose components of every value are masks, if shares are masked

    @property
    def masked(self) -> bool:
        """Whether shares are masked: one party deals for everything, and works ahead of the inputs."""
        return self.mask_dealer is not None

    def dealt_by(self, dealer: int) -> Plan:
        """The same plan with masked shares of that dealer: requests can take turns."""
        steps = tuple(
            replace(step, dealers=(dealer,)) if isinstance(step, KernelStep) else step for step in self.steps
        )
        return replace(self, steps=steps, mask_dealer=dealer)

    def hash(self) -> str:
        """A short digest of everything that parties must agree on."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @cached_property
    def last_uses(self) -> tuple[frozenset[int], ...]:
        """For every stage the variables that no later stage and no output needs."""
        needed = set(self.outputs)
        released: list[frozenset[int]] = []
        for stage in reversed(self.stages):
            touched = {
                var for number in stage for var in (*used(self.steps[number]), *self.steps[number].outputs)
            }
            released.append(frozenset(touched - needed))
            needed |= touched
        return tuple(reversed(released))

    @cached_property
    def work(self) -> tuple[tuple[int, int], ...]:
        """Roughly how many multiplications every stage begins with at each party, and does between rounds."""
        return tuple(self._work(stage) for stage in self.stages)

    def _work(self, stage: tuple[int, ...]) -> tuple[int, int]:
        first, later = 0, 0
        for step in (self.steps[number] for number in stage):
            sizes = [math.prod(self.vars[var].shape) for var in (*used(step), *step.outputs)]
            if isinstance(step, KernelStep) and step.kernel in _PRODUCTS:
                first += math.isqrt(sizes[0] * sizes[1] * sizes[-1])  # of (m, k), (k, n), (m, n)
                later += ELEMENT * sizes[-1]
            elif isinstance(step, KernelStep):
                first += ELEMENT * max(sizes)
                later += ELEMENT * max(sizes)
            else:
                first += max(sizes)
        return first, later

    def __str__(self) -> str:
        lines = [f"plan {self.name} ({self.config}{', masked' if self.masked else ''})"]
        lines += [f"  input  %{each.var}: {self.vars[each.var]}  {each.path}" for each in self.inputs]
        for stage in self.stages:
            for place, number in enumerate(stage):
                shared = "|" if place else " "
                lines.append(f" {shared}{number:>3} {self._line(self.steps[number])}")
        lines += [f"  output %{var}: {self.vars[var]}" for var in self.outputs]
        return "\n".join(lines)

    def _line(self, step: Step) -> str:
        results = ", ".join(f"%{var}: {self.vars[var]}" for var in step.outputs)
        operands = ", ".join(f"%{var}" for var in used(step))
        if isinstance(step, KernelStep):
            notes = " ".join(f"{key}={value}" for key, value in step.attributes if _worth_showing(value))
            what = (
                f"{step.kernel}({operands}) {notes}".rstrip() + f" dealer={','.join(map(str, step.dealers))}"
            )
        else:
            what = f"{kind(step)}({operands})"
        return f"{results} = {what}  {step.path}".rstrip()


def kind(step: Step) -> str:
    """`public`, `local`, `spu`, or the kernel's name."""
    if isinstance(step, KernelStep):
        return step.kernel
    return {PublicStep: "public", LocalStep: "local", SpuStep: "spu"}[type(step)]


def used(step: Step) -> Iterator[int]:
    """The variables that a step reads."""
    for each in step.inputs:
        yield each.var if isinstance(each, LocalInput) else each


def _worth_showing(value: object) -> bool:
    return value is not None and len(str(value)) <= 60
