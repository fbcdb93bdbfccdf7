"""Move the work that one owner can do alone to that owner, before anything is shared.

Every value is public (computed from public arrays alone), private to one owner (computed from the owner's
arrays and public ones), or secret. The parties keep the secret part of the program. Where a private value
enters this part, the owner shares that value instead of its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ditto_spu import ir
from ditto_spu.frontend.owner_program import Preparation, Program
from ditto_spu.frontend.owners import PUBLIC, SHARED
from ditto_spu.frontend.trace import Argument
from ditto_spu.ops import subject
from ditto_spu.ops.decision import Entry, Kind, write_prepared
from ditto_spu.ops.embedding import EMBEDDING
from ditto_spu.ops.op import name_of
from ditto_spu.ops.public_operands import is_binary
from ditto_spu.passes.analysis.classify import classify
from ditto_spu.passes.owners.fold_layer_norm import fold_norms
from ditto_spu.passes.owners.one_hot_lookups import own_lookups
from ditto_spu.passes.owners.split_adapters import multiply_apart

Origins = Mapping[ir.Value, frozenset[int]]


def hoist(module: ir.Module, arguments: Sequence[Argument]) -> Program:
    """Split a fused module into the parties' part and the owners' parts.

    Without owners the whole program is the parties'. Nothing is revealed: a preparation reads only arrays of
    its owner and public ones, and its results are shared as arguments are. Work that is free on shares stays
    with the parties in two cases: where sharing its operands takes fewer bytes, or where it computes a value
    for one call out of held arguments.
    """
    fused = ir.text(module, debug_info=True)
    module = ir.clone(module)
    multiply_apart(module, lambda: _Levels(arguments, origins(module)).level)
    if not any(each.owner for each in arguments):
        everything = tuple((place,) for place in range(len(arguments)))
        return Program(module, fused, tuple(arguments), tuple(arguments), everything)
    fold_norms(module, lambda: _Levels(arguments, origins(module)).level)
    own_lookups(module, lambda: _Levels(arguments, origins(module)).level)
    found = origins(module)
    return _Hoisting(module, tuple(arguments), found, _Levels(arguments, found)).program(fused)


def origins(module: ir.Module) -> dict[ir.Value, frozenset[int]]:
    """Return, for the values of @main outside regions, the places of the arguments behind them."""
    found = {value: frozenset((place,)) for place, value in enumerate(ir.arguments(module))}
    for op in ir.ops(ir.body(ir.main(module))):
        inside: frozenset[int] = frozenset().union(*(found[each] for each in _operands(op)))
        found.update(dict.fromkeys(op.results, inside))
    return found


def _operands(op: ir.Op) -> list[ir.Value]:
    return [*op.operands, *(ir.captured(op) if len(op.regions) else ())]


@dataclass(frozen=True)
class _Levels:
    """The lattice of levels: PUBLIC is below each owner's name, which is below SHARED."""

    arguments: Sequence[Argument]
    origins: Origins

    def level(self, value: ir.Value) -> str:
        said = {self._of(self.arguments[place]) for place in self.origins[value]} - {PUBLIC}
        return PUBLIC if not said else next(iter(said)) if len(said) == 1 else SHARED

    @staticmethod
    def _of(argument: Argument) -> str:
        return PUBLIC if argument.public else argument.owner or SHARED

    def private(self, value: ir.Value) -> bool:
        """Tell whether one owner can compute a value alone."""
        return self.level(value) not in (PUBLIC, SHARED)


@dataclass
class _Hoisting:
    """The places where the program is cut, and the two sides of the cut."""

    module: ir.Module
    arguments: tuple[Argument, ...]
    origins: Origins
    levels: _Levels
    cut: dict[ir.Value, None] = field(default_factory=dict)  # private values that owners share, in order
    kept: set[ir.Op] = field(default_factory=set)  # operations of the parties
    visited: set[ir.Value] = field(default_factory=set)

    def program(self, fused: str) -> Program:
        operations = ir.ops(ir.body(ir.main(self.module)))
        outputs = list(operations[-1].operands)
        for value in outputs:
            self._keep(value)
        arguments = ir.arguments(self.module)
        plain = [place for place, each in enumerate(arguments) if each in self.cut or not self._owned(place)]
        made = [value for value in self.cut if ir.define(value) is not None]
        chosen = [op for op in operations[:-1] if op in self.kept]
        inputs = [*(arguments[place] for place in plain), *made]
        rest = ir.parse(ir.extract(chosen, inputs, outputs, "shared", debug_info=True))
        binary = frozenset(len(plain) + place for place, value in enumerate(made) if is_binary(value))
        preparations = tuple(self._preparations(operations[:-1], made, len(plain)))
        hoisted = dict.fromkeys(path for each in preparations for path, _ in each.operations)
        prepared = {len(plain) + place: self._rule_of(value) for place, value in enumerate(made)}
        write_prepared(rest, Entry(binary=binary, prepared=prepared, hoisted=tuple(hoisted)))
        return Program(
            rest,
            fused,
            self.arguments,
            (*(self.arguments[place] for place in plain), *map(self._argument, made)),
            (*((place,) for place in plain), *(tuple(sorted(self.origins[each])) for each in made)),
            preparations,
        )

    def _owned(self, place: int) -> bool:
        return bool(self.arguments[place].owner)

    def _keep(self, value: ir.Value) -> None:
        """Leave to the parties the operations that they need for a value."""
        pending = [value]
        while pending:
            value = pending.pop()
            if value in self.visited or value in self.cut:
                continue
            if self.levels.private(value):
                cheapest = self._cut(value, {})[1]
                self.cut.update(dict.fromkeys(cheapest))
                if value in cheapest:
                    continue
            self.visited.add(value)
            op = ir.define(value)
            if op is not None:
                self.kept.add(op)
                pending += reversed(_operands(op))

    def _cut(
        self, value: ir.Value, known: dict[ir.Value, tuple[int, tuple[ir.Value, ...]]]
    ) -> tuple[int, tuple[ir.Value, ...]]:
        """Return (bytes, values) to share so that the parties get a private value by free work alone."""
        if value not in known:
            known[value] = self._cheapest(value, known)
        return known[value]

    def _cheapest(
        self, value: ir.Value, known: dict[ir.Value, tuple[int, tuple[ir.Value, ...]]]
    ) -> tuple[int, tuple[ir.Value, ...]]:
        own, op = self._price(value), ir.define(value)
        if op is None or not self._free(op):
            return own, (value,)
        private = [each for each in op.operands if self.levels.private(each)]
        below = dict.fromkeys(each for operand in private for each in self._cut(operand, known)[1])
        price = sum(map(self._price, below))
        same = op.name == "stablehlo.reshape" and price == own  # share it as the user names it
        loses = all(map(self._held, below)) and not self._held(value)
        return (price, tuple(below)) if loses or same or price < own else (own, (value,))

    def _held(self, value: ir.Value) -> bool:
        """Tell whether a value is made of held arguments alone, so that it is shared once."""
        return all(self.arguments[place].held for place in self.origins[value])

    def _price(self, value: ir.Value) -> int:
        """Return roughly the bytes of a share, or 0 for a value that is shared anyway."""
        return 0 if value in self.cut else math.prod(ir.shape(value)) * (4 if ir.is_float(value) else 8)

    def _free(self, op: ir.Op) -> bool:
        """Tell whether the parties do an operation without a message."""
        if ir.composite_name(op) == EMBEDDING.composite:  # it becomes a gather
            return self.levels.level(op.operands[1]) == PUBLIC
        return self._kind(op) is Kind.LOCAL

    def _kind(self, op: ir.Op) -> Kind:
        """Return the kind that an operation would have on shares."""
        return classify(op, lambda each: self.levels.level(each) != PUBLIC, lambda _: False)

    def _rule_of(self, value: ir.Value) -> tuple[str, str]:
        """Return the op of the rules and the path of the operation that computes a value.

        Sums and layout behind the value are skipped.
        """
        op = ir.define(value)
        while op is not None and self._kind(op) is Kind.LOCAL:
            inner = [maker for each in op.operands if (maker := ir.define(each)) is not None]
            computed = [each for each in inner if self._kind(each) not in (Kind.LOCAL, Kind.PUBLIC)]
            following = computed or [each for each in inner if self._kind(each) is Kind.LOCAL]
            if not following:
                break
            op = following[0]
        assert op is not None
        return subject(op, self._kind(op)), ir.path_of(op)

    def _argument(self, value: ir.Value) -> Argument:
        op, owner = ir.define(value), self.levels.level(value)
        assert op is not None
        path = "/".join(each for each in (ir.path_of(op), name_of(op).partition(".")[2]) if each)
        return Argument(f"{owner}:{path}", ir.shape(value), str(ir.dtype(value)), False, owner)

    def _preparations(
        self, operations: Sequence[ir.Op], made: Sequence[ir.Value], first: int
    ) -> Iterable[Preparation]:
        """Make one program for the values that need the same parameters.

        Values of held parameters are thus prepared once.
        """
        groups: dict[tuple[str, frozenset[str]], list[ir.Value]] = {}
        for value in made:
            parameters = frozenset(self.arguments[each].parameter for each in self.origins[value])
            groups.setdefault((self.levels.level(value), parameters), []).append(value)
        for (owner, _), values in groups.items():
            needed, chosen = set(values), []
            for op in reversed(operations):
                if any(each in needed for each in op.results):
                    chosen.append(op)
                    needed.update(_operands(op))
            chosen.reverse()
            places = [place for place, each in enumerate(ir.arguments(self.module)) if each in needed]
            inputs = [ir.arguments(self.module)[place] for place in places]
            yield Preparation(
                owner,
                ir.extract(chosen, inputs, values, owner),
                tuple(places),
                tuple(first + made.index(each) for each in values),
                tuple(
                    (ir.path_of(op), name_of(op))
                    for op in chosen
                    if any(self.levels.private(each) for each in op.results)
                ),
            )
