"""The compiled program, as plain data that can be printed, pickled, and executed step by step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.protocol.split_dealers import part_specs
from ditto_kernels.values.formats import Fxp

ELEMENT = 1 << 6  # so many multiplications take as long as one element of a kernel that is no product
PRODUCTS = ("matmul", "matmul_public", "matmul_adapted")  # mainly of their first two operands
Attributes = tuple[tuple[str, object], ...]
# No step of the program reads their results.
PATIENT = ("product_guard", "element_guard", "range_guard", "spread_guard", "guard_bit")
INTEGER = Fxp(64, 0)  # the format of shared integers and booleans
SPU_FORMAT = Fxp(64, 18)  # the format of every real value that a step on SPU reads or returns


@dataclass(frozen=True)
class Var:
    """A value of the program. It is shared in the format `fxp`, or public if `fxp` is None.

    Shared integers and booleans have the format fxp64.0.
    """

    shape: tuple[int, ...]
    dtype: str  # in the user's program
    fxp: Fxp | None
    path: str = ""
    range: float | None = None  # declared, or the room of a product: |value| <= range

    def __str__(self) -> str:
        kind = str(self.fxp) if self.fxp is not None else f"public {self.dtype}"
        return f"{kind}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class PublicStep:
    """Operations on public values alone. Every party computes them in plaintext, with the same result.

    text: the operations as StableHLO.
    inputs, outputs: numbers of variables, as in all steps.
    """

    path: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class LocalInput:
    """The way in which a local step uses a value.

    use: `share` for a shared value. A public value is `affine` (it is encoded, and added in component 0
        alone), `factor` (it is encoded, for both components) or `plain` (it is used as it is).
    fxp: the format in which a public affine term or factor is encoded.
    """

    var: int
    use: str
    fxp: Fxp | None = None  # in which a public affine or factor operand is encoded


@dataclass(frozen=True)
class LocalStep:
    """Linear and layout operations on ring integers. They run on each component without communication.

    text: the operations as StableHLO.
    """

    path: str
    text: str
    inputs: tuple[LocalInput, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class KernelStep:
    """One kernel.

    outputs: exactly one variable.
    attributes: keyword arguments of the kernel.
    dealers: each of these parties deals the correlated randomness of an equal part of the kernel.
    worth: how many bytes a saved round is worth, by which the kernel chooses its protocol for few elements.
    """

    path: str
    kernel: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]  # one
    attributes: Attributes
    dealers: tuple[int, ...]
    worth: int = ROUND_WORTH


@dataclass(frozen=True)
class SpuStep:
    """All other operations, as a program that SPU's ABY3 runtime executes in FM64.

    text: the operations as StableHLO, from which SPU's executable is compiled.
    """

    path: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Step = PublicStep | LocalStep | KernelStep | SpuStep


@dataclass(frozen=True)
class Input:
    """One array that enters the plan.

    path: the path of the argument in the user's call.
    made: '' for an array of the user's call. Otherwise a digest of how its owner makes it of such arrays.
    """

    path: str
    var: int
    made: str = ""


@dataclass(frozen=True)
class Plan:
    """The program that three parties execute.

    In `str(plan)` a | marks a step that shares rounds with the step above it.

    name, config: the names of the function and of its configuration.
    vars: all values. Inputs, steps and outputs refer to them by number.
    stages: numbers of steps. The kernels of one stage share rounds.
    mask_dealer: with masked shares, the party whose components of every value are masks. Otherwise None.
    guard: the last output, if it is no output of the function but tells whether everything is in range: it
        is 0, or else a random number. None without a guard.
    """

    name: str
    config: str
    vars: tuple[Var, ...]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...]
    mask_dealer: int | None = None
    guard: int | None = None

    @property
    def masked(self) -> bool:
        """Return whether shares are masked.

        One party is then the dealer of every kernel, and works before the inputs exist.
        """
        return self.mask_dealer is not None

    def dealt_by(self, dealer: int) -> Plan:
        """Return the same plan with masked shares of another dealer, so that requests can take turns."""
        steps = tuple(
            replace(step, dealers=(dealer,)) if isinstance(step, KernelStep) else step for step in self.steps
        )
        return replace(self, steps=steps, mask_dealer=dealer)

    def hash(self) -> str:
        """Return the SHA-256 of everything on which parties must agree. Rights to weights rest on it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @cached_property
    def last_uses(self) -> tuple[frozenset[int], ...]:
        """Return for every stage the variables that neither a later stage nor an output needs."""
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
        """Return two rough numbers for every stage: the multiplications that each party does in it.

        The first is the number before the first round, the second is the number between rounds.
        """
        return tuple(self._work(stage) for stage in self.stages)

    def _work(self, stage: tuple[int, ...]) -> tuple[int, int]:
        first, later = 0, 0
        for step in (self.steps[number] for number in stage):
            sizes = [math.prod(self.vars[var].shape) for var in (*used(step), *step.outputs)]
            if isinstance(step, KernelStep) and step.kernel in PRODUCTS:
                first += math.isqrt(sizes[0] * sizes[1] * sizes[-1])  # sizes are of (m, k), (k, n), (m, n)
                later += ELEMENT * sizes[-1]
            elif isinstance(step, KernelStep) and step.kernel in PATIENT:
                first += max(sizes)
                later += ELEMENT * max(sizes)
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

    def _variant(self, step: KernelStep) -> str:
        """The protocol that the kernel's plan chose for few elements, which follows from the step."""
        out = self.vars[step.outputs[0]].fxp
        assert out is not None
        attributes = dict(step.attributes)
        specs = [Spec(self.vars[var].shape, self.vars[var].fxp) for var in step.inputs]
        kernel = KERNELS[step.kernel]
        if len(step.dealers) > 1:
            specs = part_specs(kernel, specs, len(step.dealers), **attributes)[0]
        return kernel.variant(*specs, out=out, worth=step.worth, **attributes)

    def _line(self, step: Step) -> str:
        results = ", ".join(f"%{var}: {self.vars[var]}" for var in step.outputs)
        operands = ", ".join(f"%{var}" for var in used(step))
        if isinstance(step, KernelStep):
            notes = [f"{key}={value}" for key, value in step.attributes if _worth_showing(value)]
            variant = self._variant(step)
            notes += [f"round_worth={step.worth}"] if step.worth != ROUND_WORTH else []
            notes += [f"({variant})"] if variant else []
            notes.append(f"dealer={','.join(map(str, step.dealers))}")
            what = " ".join([f"{step.kernel}({operands})", *notes])
        else:
            what = f"{kind(step)}({operands})"
        return f"{results} = {what}  {step.path}".rstrip()


def kind(step: Step) -> str:
    """Return `public`, `local`, `spu`, or the name of the kernel."""
    if isinstance(step, KernelStep):
        return step.kernel
    return {PublicStep: "public", LocalStep: "local", SpuStep: "spu"}[type(step)]


def used(step: Step) -> Iterator[int]:
    """Yield the variables that a step reads."""
    for each in step.inputs:
        yield each.var if isinstance(each, LocalInput) else each


def _worth_showing(value: object) -> bool:
    return value is not None and len(str(value)) <= 60
