"""Import the bindings of MLIR and give types to their objects. Only this room imports `jaxlib.mlir`.

The stubs of the bindings leave out half of what their objects can do. The protocols below list the parts that
this project uses, so that passes are type-checked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, overload

from jaxlib.mlir import ir as _typed
from jaxlib.mlir import passmanager
from jaxlib.mlir._mlir_libs import register_jax_dialects
from jaxlib.mlir.dialects import chlo, stablehlo

__all__ = [
    "Attributes",
    "Block",
    "Location",
    "Module",
    "Op",
    "Region",
    "Value",
    "context",
    "mlir",
    "passmanager",
    "stablehlo",
]

mlir: Any = _typed
Location: TypeAlias = _typed.Location


class Value(Protocol):
    """The result of an operation or the argument of a block.

    Values are equal and hashable by their identity in the module.
    """

    @property
    def type(self) -> Any: ...

    @property
    def owner(self) -> Any: ...

    @property
    def uses(self) -> Any: ...

    def replace_all_uses_with(self, other: Value) -> None: ...

    def __hash__(self) -> int: ...


class NamedAttribute(Protocol):
    """One entry of an operation's attributes."""

    name: str
    attr: Any


class Attributes(Protocol):
    """The attributes of an operation: a mapping by name that iterates over its entries."""

    def __getitem__(self, name: str) -> Any: ...

    def __setitem__(self, name: str, value: Any) -> None: ...

    def __delitem__(self, name: str) -> None: ...

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[NamedAttribute]: ...


class Operands(Protocol):
    """The operands of an operation. An operand is exchanged by assignment."""

    @overload
    def __getitem__(self, place: int) -> Value: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Value]: ...

    def __setitem__(self, place: int, value: Value) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Value]: ...


class Block(Protocol):
    """A list of operations. The last one is its terminator."""

    @property
    def arguments(self) -> Sequence[Value]: ...

    @property
    def operations(self) -> Any: ...


class Region(Protocol):
    """The blocks that an operation contains."""

    @property
    def blocks(self) -> Any: ...


class Op(Protocol):
    """One operation of a module."""

    @property
    def name(self) -> str: ...

    @property
    def operands(self) -> Operands: ...

    @property
    def results(self) -> Sequence[Value]: ...

    @property
    def attributes(self) -> Attributes: ...

    @property
    def regions(self) -> Sequence[Region]: ...

    @property
    def location(self) -> Location: ...

    @property
    def parent(self) -> Any: ...

    def verify(self) -> bool: ...

    def erase(self) -> None: ...

    def get_asm(self, **options: Any) -> str: ...

    def __hash__(self) -> int: ...


class Module(Protocol):
    """A program: a list of functions. Its entry is @main."""

    @property
    def operation(self) -> Any: ...

    @property
    def body(self) -> Any: ...


@functools.lru_cache(maxsize=1)
def context() -> Any:
    """Return the one MLIR context of the process.

    It has the dialects that a traced JAX function uses.
    """
    made = mlir.Context()
    registry = mlir.DialectRegistry()
    register_jax_dialects.register_dialects(registry)
    made.append_dialect_registry(registry)
    made.load_all_available_dialects()
    made.enable_multithreading(False)
    chlo.register_dialect(made)
    stablehlo.register_dialect(made)
    # A traced module has foreign attributes, such as `mhlo.layout_mode`.
    made.allow_unregistered_dialects = True
    return made
