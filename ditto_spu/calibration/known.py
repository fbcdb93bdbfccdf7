"""Find what a calibration observed of the operations of a program."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from operator import add

from ditto_spu.calibration.calibration import Calibration, Observation
from ditto_spu.calibration.identity import Identity, Key, identities
from ditto_spu.calibration.summary import Observed
from ditto_spu.errors import InputError, RangeWarning
from ditto_spu.passes.pipeline import Work
from ditto_spu.rules.rule import INPUT


@dataclass(frozen=True)
class Known:
    """What a calibration knows of one program.

    operations: the observed values of each operation of @main, in order and without casts, or None for one
        that is unknown.
    changed: the unknown operations at paths where others of their kind were observed.
    calibration: knows the arguments.
    """

    operations: tuple[Observed | None, ...]
    changed: tuple[Identity, ...]
    calibration: Calibration

    def argument(self, path: str) -> Observed | None:
        """Return the observed values of the argument at a path."""
        return self.calibration.at(path, INPUT)

    def warn_of_changes(self) -> None:
        """Warn with a RangeWarning if a part of the program has changed since the calibration."""
        if self.changed:
            first = self.changed[0]
            warnings.warn(
                f"{len(self.changed)} operations of the program are not those that were calibrated, such as "
                f"{first.op} at '{first.path}': they take formats for values of any size. Calibrate this "
                "program to have narrower ones",
                RangeWarning,
                stacklevel=2,
            )


def known(calibration: Calibration, linear: Work) -> Known:
    """Find what a calibration observed of a program after the pass `linearise`.

    In a program whose arguments have the types of a call that was observed, an operation must be exactly what
    it was. In any other program it must be like one that was observed. Where more or fewer operations are
    alike than in the calibration, each takes the values of all of them. New layout takes the values of what
    it rearranges.

    Raises InputError for a calibration of another function, which knows no operation of the program.
    """
    program = identities(linear)
    like: dict[Key, list[Observation]] = {}
    for each in calibration.observations:
        like.setdefault(each.key, []).append(each)
    strict = program.arguments in calibration.arguments
    counts, met = Counter(each.key for each in program.operations if each), Counter[Key]()
    found: list[Observed | None] = []
    for operation in program.operations:
        if operation is None:
            found.append(None)
            continue
        alike, rank = like.get(operation.key, []), met[operation.key]
        met[operation.key] += 1
        same = [each for each in alike if operation.exact in each.exact]
        if not same and not strict:
            same = [alike[rank]] if len(alike) == counts[operation.key] else alike
        seen = reduce(add, (each.seen for each in same)) if same else None
        if seen is None and operation.source is not None:
            source = operation.source
            seen = calibration.at(source, INPUT) if isinstance(source, str) else found[source]
        found.append(seen)
    pairs = zip(program.operations, found, strict=True)
    computed = [seen for each, seen in pairs if each is not None and each.source is None]
    if computed and not any(computed):
        _refuse_foreign(calibration)
    changed = tuple(
        each
        for each, seen in zip(program.operations, found, strict=True)
        if each is not None and seen is None and (each.path, each.op) in calibration.values
    )
    return Known(tuple(found), changed, calibration)


def _refuse_foreign(calibration: Calibration) -> None:
    """Raise InputError for the calibration of another function, unless it observed no operation at all."""
    observed = [each for each in calibration.observations if each.op != INPUT]
    if observed:
        first = observed[0]
        raise InputError(
            f"the calibration of '{calibration.function}' knows no operation of this program (it has "
            f"{first.op} at '{first.path}' and {len(observed) - 1} more): calibrate the function that you run"
        )
