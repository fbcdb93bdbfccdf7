"""Define the record of one operation: everything that the compiler knows about it.

Each operation has a file in this folder with one `Op` record. The passes, the grammar of configurations,
calibration, search, emulation, the PUMA baseline and the tables of the docs loop over these records. None of
them names an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_kernels.activation.curve import Fits
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Decision, Kind
from ditto_spu.ops.match import Match
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import Attributes

Span = tuple[float, float]
Secret = Callable[[ir.Value], bool]


@dataclass(frozen=True)
class Choice:
    """The values that a configuration chooses for one operation.

    format: the format of the result.
    operand: the format that operands are cast to first, or None.
    inner: the format in which the kernel computes between operand and result, or None.
    range: the declared bound on the magnitude of the result, or None.
    approx: the name of the approximation, or None for the default.
    error: the error limit under which the compiler chooses, or None.
    rules: the indices of the rules that gave these values.
    """

    format: Fxp
    operand: Fxp | None
    inner: Fxp | None
    range: float | None
    approx: str | None
    error: float | None
    rules: frozenset[int]


@dataclass(frozen=True)
class Pattern:
    """The way to recognise an operation that JAX writes in several steps, and its meaning.

    roots: the StableHLO operations that the last step may be.
    match: recognises the operation from its last step, and returns None for anything else.
    meaning: the JAX function that the composite decomposes to.
    """

    roots: tuple[str, ...]
    match: Callable[[ir.Op], Match | None]
    meaning: Callable[..., Array]


@dataclass(frozen=True)
class Approximation:
    """One of the ways to compute an operation. The kernel holds its formula and its error bound.

    meaning: the function that the approximation computes, where this is not the operation's own function.
    needs_training: whether it is a cheap replacement for models that were trained with it. An error limit or
        a search never chooses such an approximation.
    windowed: whether it serves every operand that the operation's window admits.
    reads: gives the largest magnitude that an operand may have, from its format and that of the result,
        where the approximation bounds it.
    """

    meaning: Callable[..., Array] | None = None
    needs_training: bool = False
    windowed: bool = False
    reads: Callable[[Fxp, Fxp], float] | None = None


@dataclass(frozen=True)
class Sample:
    """The operands on which the error of a kernel is measured.

    rows: whether to draw whole rows along the dimension that the kernel works on, rather than single
        elements.
    operands: how many of the kernel's operands take part, or None for all.
    positive: the places of operands that are positive, each with the least value that it takes.
    limit: the largest magnitude of an operand.
    """

    rows: bool = False
    operands: int | None = None
    positive: Mapping[int, float] = field(default_factory=dict)
    limit: float = float("inf")


@dataclass(frozen=True)
class Call:
    """One operation of a module with the decision about it.

    secret: tells whether a value is secret.
    reach: gives the range that is declared for a value, or None.
    """

    op: ir.Op
    decision: Decision
    secret: Secret
    reach: Callable[[ir.Value], float | None] = lambda _: None

    @property
    def operand(self) -> Fxp | None:
        """The format of the first operand, or None where operands stay as they are."""
        return self.decision.operands[0] if self.decision.operands else None


@dataclass(frozen=True)
class KernelCall:
    """The name of a kernel, its attributes, and the values that it reads."""

    kernel: str
    attributes: Attributes
    operands: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Relied:
    """A range that a kernel relies on beyond the ranges of formats.

    quantity: the name of the quantity, such as "variance".
    low, high: the ends of the range.
    fact: the name under which observers note the quantity. The empty string stands for the result itself.
    exact: whether every value within the range is as good as any other, as with indices.
    told: whether the kernel has the range from what computes its operand, and would take a wider one.
    """

    quantity: str
    low: float
    high: float
    fact: str = ""
    exact: bool = False
    told: bool = False


@dataclass(frozen=True)
class Formats:
    """The formats that an operation takes.

    operands: the formats that secret operands are cast to.
    result: the format of the result. It is None while the result only rearranges an argument whose format is
        still open.
    natural: the format of the result before its cast, where the operation has a cast of its own.
    factor: the format in which a public factor is encoded.
    kind: the kind of the operation, where it turns out to be another one than `classify` said.
    untruncated: the products that keep their fraction bits until this operation has added them.
    approx: the approximation, where no rule chooses one.
    """

    operands: Mapping[ir.Value, Fxp]
    result: Fxp | None
    natural: Fxp | None = None
    factor: Fxp | None = None
    kind: Kind | None = None
    untruncated: tuple[ir.Op, ...] = ()
    approx: str | None = None


class Chooser(Protocol):
    """The questions that an operation may ask of the pass that assigns formats.

    `is_secret` tells whether a value is secret.
    """

    @property
    def default_format(self) -> Fxp:
        """The format of every value that no rule speaks about."""

    def is_secret(self, value: ir.Value) -> bool: ...

    def is_binary(self, value: ir.Value) -> bool:
        """Tell whether a value is an argument that holds only zeros and ones."""

    def known(self, value: ir.Value) -> Fxp | None:
        """Return the format of a secret value, or None for an argument whose format is still open."""

    def settle(self, value: ir.Value, wish: Fxp) -> Fxp:
        """Return the format of a secret value. An argument whose format is still open takes `wish`."""

    def wanted(self, value: ir.Value) -> Fxp | None:
        """Return the format in which all consumers of a value take it, or None if they differ."""

    def rules(self, subject: str, op: ir.Op) -> Choice:
        """Return the values that rules choose for an operation under its own name or as "weight"."""

    def ruled_format(self, subject: str, op: ir.Op) -> bool:
        """Tell whether a rule sets the format of an operation."""

    def decision(self, op: ir.Op) -> Decision | None:
        """Return the decision about an earlier operation, or None."""


ChooseFormats = Callable[[Chooser, ir.Op, Choice, Fxp], Formats]


def name_of(op: ir.Op) -> str:
    """Return the name of an operation. For a composite this is the name of the composite."""
    return ir.composite_name(op) or op.name


def options(call: Call, names: Sequence[str]) -> Attributes:
    """Return the options that the rules set for the kernel, in the order of `names`."""
    values = ((name, getattr(call.decision, name)) for name in names)
    return tuple((name, value) for name, value in values if value is not None)


def composite_attributes(call: Call) -> Attributes:
    """Return the attributes of a composite, sorted by name."""
    return tuple(sorted(ir.composite_attributes(call.op).items()))


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operation, as configurations, compiler, calibration, search and docs know it.

    name: the name by which rules speak about the operation.
    summary: one line for the docs.
    kernels: the operations or composites that it covers in a module, each with the kernel that computes it.
    kind: how the parties compute it.
    formats: chooses the formats of its operands and its result.
    pattern: recognises it where JAX writes it in several operations.
    options: the values that rules may give to its kernel beyond formats: "approx", "inner".
    ignores: the values of rules that it cannot honour. A rule that sets one of them is refused.
    approximations: its approximations by name. The first one is the default.
    steepness: the largest factor by which it magnifies an error of its operand. None: no error limit chooses.
    extra: gives the attributes of its kernel beside the options. By default these are the attributes of the
        composite, sorted by name.
    call: makes the kernel call, where options and `extra` do not say everything.
    linear: its meaning as linear operations, for a public second operand.
    wish: gives the format in which its operands are wanted, from what the rules choose. None stands for any.
    puma: the function by which the PUMA baseline computes it.
    puma_public: the same for a public second operand.
    integers: whether its operands may be integers or booleans.
    mixed: tells whether its kernel computes an operation that reads or returns integers or booleans. SPU
        computes the others, and those whose secret operands all come from SPU. None: no such operation.
    window: the curve that it follows. The ends of the curve bound the operands that it may read.
    operand_limit: gives the largest magnitude of its first operand, where neither window nor approximation
        does.
    relies_on: lists the ranges that its kernel relies on.
    facts: gives the extremes that observers note for these ranges, from the operands, by a JAX function.
    keeps_room: tells whether it only adds, moves, compares, chooses or halves elements. More fraction bits of
        its operands then take no room from a product.
    bounds: the interval of its result, whatever its operands are.
    rows: bounds the rows of its result, from the intervals of its operands, or returns None.
    search: the formats that a search, or a calibration, may try.
    sample: the operands on which its error is measured, or None if it is exact.
    """

    name: str
    summary: str
    kernels: Mapping[str, str]
    kind: Kind
    formats: ChooseFormats
    pattern: Pattern | None = None
    options: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    approximations: Mapping[str, Approximation] = field(default_factory=dict)
    steepness: float | None = None
    extra: Callable[[Call], Attributes] = composite_attributes
    call: Callable[[Call], KernelCall] | None = None
    linear: Callable[..., Array] | None = None
    wish: Callable[[Choice], Fxp | None] = lambda choice: choice.operand
    puma: Callable[..., Array] | None = None
    puma_public: Callable[..., Array] | None = None
    integers: bool = False
    mixed: Callable[[ir.Op], bool] | None = None
    window: Fits | None = None
    operand_limit: Callable[[Call, Fxp], float] | None = None
    relies_on: Callable[[Call], Iterable[Relied]] = lambda call: ()
    facts: Callable[[ir.Op, Sequence[Array]], Mapping[str, tuple[Array, Array]]] | None = None
    keeps_room: Callable[[ir.Op], bool] = lambda op: False
    bounds: Span | None = None
    rows: Callable[[ir.Op, ir.At], ir.Rows | None] = lambda op, at: None
    search: Tries = field(default_factory=Tries)
    sample: Sample | None = None

    @property
    def composite(self) -> str:
        """The name of the composite that the pattern becomes."""
        return next(name for name in self.kernels if name.startswith("ditto."))

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of the values that a rule may set for it."""
        values = ("format", "operand", "range", *self.options)
        limited = ("error",) if self.steepness is not None else ()
        return tuple(each for each in (*values, *limited) if each not in self.ignores)

    def approximation(self, name: str | None) -> Approximation:
        """Return the approximation of that name. None stands for the default one."""
        plain = Approximation(windowed=self.window is not None)
        if name is None:
            return next(iter(self.approximations.values()), plain)
        return self.approximations.get(name, plain)

    def kernel_call(self, call: Call) -> KernelCall:
        """Return the kernel that computes an operation, with its attributes and operands."""
        if self.call is not None:
            return self.call(call)
        attributes = (*options(call, self.options), *self.extra(call))
        return KernelCall(self.kernels[name_of(call.op)], attributes, tuple(call.op.operands))

    def room(self, call: Call, fxp: Fxp) -> float:
        """Return the largest magnitude that the first operand may have in a format.

        If nothing else bounds it, this is half of the format's limit.
        """
        approximation = self.approximation(call.decision.approx)
        if self.operand_limit is not None:
            return self.operand_limit(call, fxp)
        if approximation.reads is not None:
            return approximation.reads(fxp, call.decision.out)
        return fxp.limit / 2 if self.window is None else self.window_room(fxp, call.decision.out)

    def window_room(self, fxp: Fxp, out: Fxp) -> float:
        """Return the largest magnitude that a function with a window may read, for a result in `out`.

        The function compares its operand with the ends of the window, and these comparisons need room in the
        ring.
        """
        assert self.window is not None
        return self.window.at(fxp).room(fxp, out)


def span(value: NDArray[Any]) -> Span:
    """Return the least and the largest element of an array.

    NaN counts as infinite, because no format holds it. An array without elements spans nothing.
    """
    if not value.size:
        return 0.0, 0.0
    if np.isnan(value).any():
        return float("-inf"), float("inf")
    return float(np.min(value)), float(np.max(value))
