"""The record of one operation: everything that the compiler knows about it, in one file each.

Passes, the grammar of configurations, calibration, search, emulation, the PUMA baseline and the tables of the
docs loop over these records. None of them names an operation.
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
from ditto_spu.plan.plan import Attributes

Span = tuple[float, float]
Secret = Callable[[ir.Value], bool]


@dataclass(frozen=True)
class Choice:
    """What a configuration says about one operation; `rules` are the indices of the rules that said it."""

    format: Fxp
    operand: Fxp | None
    inner: Fxp | None
    range: float | None
    approx: str | None
    error: float | None
    rules: frozenset[int]


@dataclass(frozen=True)
class Pattern:
    """How an operation that JAX writes in several steps is recognised, and what it means.

    roots: StableHLO operations that the last step may be. match: recognises it from there. meaning: the JAX
    function that its composite decomposes to.
    """

    roots: tuple[str, ...]
    match: Callable[[ir.Op], Match | None]
    meaning: Callable[..., Array]


@dataclass(frozen=True)
class Approximation:
    """One of the ways to compute an operation; the kernel holds its formula and its error bound.

    meaning: the function that it computes, where that is another one than the operation's own.
    needs_training: it is a cheap replacement for a model that was trained with it. An error limit or a search
        never chooses it.
    windowed: it serves every operand that the operation's window admits.
    reads: how large an operand in a format may be, where the approximation bounds it.
    """

    meaning: Callable[..., Array] | None = None
    needs_training: bool = False
    windowed: bool = False
    reads: Callable[[Fxp], float] | None = None


@dataclass(frozen=True)
class Tries:
    """What a search for cheaper formats may change beside the format of the result.

    operands, inner: the formats to try. products: as for a product of matrices, one bit more or less for the
    operands and the weights, and a tighter declared range.
    """

    operands: tuple[Fxp, ...] = ()
    inner: tuple[Fxp, ...] = ()
    products: bool = False


@dataclass(frozen=True)
class Sample:
    """On what operands the error of a kernel is measured.

    rows: whole rows along the dimension that the kernel works on, rather than single elements.
    operands: how many of the kernel's operands take part; None for all.
    positive: the places of operands that are positive, and the least value that they take.
    limit: the largest magnitude.
    """

    rows: bool = False
    operands: int | None = None
    positive: Mapping[int, float] = field(default_factory=dict)
    limit: float = float("inf")


@dataclass(frozen=True)
class Call:
    """One operation of a module with the decision about it.

    secret: whether a value is secret. reach: the range that is declared for a value, if any.
    """

    op: ir.Op
    decision: Decision
    secret: Secret
    reach: Callable[[ir.Value], float | None] = lambda _: None

    @property
    def operand(self) -> Fxp | None:
        """The format of the first operand."""
        return self.decision.operands[0] if self.decision.operands else None


@dataclass(frozen=True)
class KernelCall:
    """The name of a kernel, its attributes, and the values that it reads."""

    kernel: str
    attributes: Attributes
    operands: tuple[ir.Value, ...]


@dataclass(frozen=True)
class Relied:
    """A range that a kernel relies on beyond those of formats.

    quantity: its name, such as "variance". fact: under what name observers note it; '' for the result itself.
    """

    quantity: str
    low: float
    high: float
    fact: str = ""


@dataclass(frozen=True)
class Formats:
    """The formats that an operation takes.

    operands: what secret operands are cast to. result: None while it only rearranges an argument whose format
    is still open. natural: of the result before its cast. factor: of a public factor. kind: where it turns
    out to be another one. untruncated: products that keep their fraction bits until this operation has added
    them.
    """

    operands: Mapping[ir.Value, Fxp]
    result: Fxp | None
    natural: Fxp | None = None
    factor: Fxp | None = None
    kind: Kind | None = None
    untruncated: tuple[ir.Op, ...] = ()


class Chooser(Protocol):
    """What an operation asks of the pass that assigns formats."""

    @property
    def default_format(self) -> Fxp:
        """Of everything that no rule speaks about."""

    def is_secret(self, value: ir.Value) -> bool: ...

    def is_binary(self, value: ir.Value) -> bool:
        """Whether it is an argument of zeros and ones."""

    def known(self, value: ir.Value) -> Fxp | None:
        """The format of a secret value; None for an argument whose format is still open."""

    def settle(self, value: ir.Value, wish: Fxp) -> Fxp:
        """The format of a secret value; an argument whose format is still open takes the wish."""

    def wanted(self, value: ir.Value) -> Fxp | None:
        """The format in which all consumers of a value take it, if they agree."""

    def rules(self, subject: str, path: str) -> Choice:
        """What the rules say about an op, or about "input" or "weight", at a path."""

    def ruled_format(self, subject: str, path: str) -> bool:
        """Whether a rule sets the format there."""

    def decision(self, op: ir.Op) -> Decision | None:
        """What was decided about an earlier operation."""


ChooseFormats = Callable[[Chooser, ir.Op, Choice, Fxp], Formats]


def name_of(op: ir.Op) -> str:
    """The name of an operation; of a composite, what it is called."""
    return ir.composite_name(op) or op.name


def options(call: Call, names: Sequence[str]) -> Attributes:
    """What the rules say to the kernel, in the order of `names`."""
    values = ((name, getattr(call.decision, name)) for name in names)
    return tuple((name, value) for name, value in values if value is not None)


def composite_attributes(call: Call) -> Attributes:
    """The attributes of a composite, by name."""
    return tuple(sorted(ir.composite_attributes(call.op).items()))


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operation, as configurations, compiler, calibration, search and docs know it.

    name: by which rules speak about it. summary: one line for the docs.
    kernels: the operations or composites that it covers in a module, each with the kernel that computes it.
    kind: how the parties compute it.
    formats: chooses the formats of its operands and its result.
    pattern: how it is recognised where JAX writes it in several operations.
    options: what rules may tell its kernel beyond formats: "approx", "inner".
    ignores: values of rules that it cannot honour, so that a rule that sets one is refused.
    approximations: by name; the first is the default.
    steepness: how much it magnifies an error of its operand; None if no error limit chooses its formats.
    extra: attributes of its kernel beside the options; for a composite, its own ones by name.
    call: makes the kernel call, where options and `extra` do not say it all.
    linear: its meaning as linear operations where its second operand is public.
    puma, puma_public: how the baseline computes it; where the second operand is public.
    integers: its operands may be integers or booleans.
    window: the curve that it follows, whose ends bound what it may read.
    operand_limit: how large its first operand may be, where neither window nor approximation says so.
    relies_on: ranges that its kernel relies on. facts: what observers note for these, from operands' values.
    search: what a search may change. sample: on what its error is measured; None if it is exact.
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
    puma: Callable[..., Array] | None = None
    puma_public: Callable[..., Array] | None = None
    integers: bool = False
    window: Fits | None = None
    operand_limit: Callable[[Call, Fxp], float] | None = None
    relies_on: Callable[[Call], Iterable[Relied]] = lambda call: ()
    facts: Callable[[ir.Op, Sequence[NDArray[Any]]], Mapping[str, Span]] | None = None
    search: Tries = Tries()
    sample: Sample | None = None

    @property
    def composite(self) -> str:
        """The composite that the pattern becomes."""
        return next(name for name in self.kernels if name.startswith("ditto."))

    @property
    def takes(self) -> tuple[str, ...]:
        """The values that a rule may set for it."""
        values = ("format", "operand", "range", *self.options)
        limited = ("error",) if self.steepness is not None else ()
        return tuple(each for each in (*values, *limited) if each not in self.ignores)

    def approximation(self, name: str | None) -> Approximation:
        """The one of that name; None means the default."""
        plain = Approximation(windowed=self.window is not None)
        if name is None:
            return next(iter(self.approximations.values()), plain)
        return self.approximations.get(name, plain)

    def kernel_call(self, call: Call) -> KernelCall:
        """Which kernel computes an operation, and with which attributes."""
        if self.call is not None:
            return self.call(call)
        attributes = (*options(call, self.options), *self.extra(call))
        return KernelCall(self.kernels[name_of(call.op)], attributes, tuple(call.op.operands))

    def room(self, call: Call, fxp: Fxp) -> float:
        """How large the first operand may be in a format: half of it, if nothing else bounds it."""
        approximation = self.approximation(call.decision.approx)
        if self.operand_limit is not None:
            return self.operand_limit(call, fxp)
        if approximation.reads is not None:
            return approximation.reads(fxp)
        return fxp.limit / 2 if self.window is None else self.window_room(fxp)

    def window_room(self, fxp: Fxp) -> float:
        """What a function with a window may read: comparisons with its ends need room for them."""
        assert self.window is not None
        return fxp.limit - self.window.at(fxp).outer


def span(value: NDArray[Any]) -> Span:
    """Least and most of an array. NaN counts as infinite: no format holds it."""
    if np.isnan(value).any():
        return float("-inf"), float("inf")
    return float(np.min(value)), float(np.max(value))
