"""Report what owners compute before sharing, what they share, and what that saves the parties."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.frontend.owner_program import Program
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.plan import Plan


@dataclass(frozen=True)
class Share:
    """One array that an owner shares.

    owner, path, shape, format: its owner, path, shape and format, such as "fxp32.12".
    upload_bytes: the bytes that the owner sends to all three parties.
    made_of: the parameters that the array depends on.
    """

    owner: str
    path: str
    shape: tuple[int, ...]
    format: str
    upload_bytes: int  # to all three parties, two components each
    made_of: tuple[str, ...]


@dataclass(frozen=True)
class Ownership:
    """The work of owners, and the costs of the parties with and without it.

    hoisted: for each owner, how often each operation is done in plaintext.
    shares: the arrays that owners share.
    steps, megabytes, rounds: the costs of the parties, in MB sent per party.
    steps_without, megabytes_without, rounds_without: the costs of the same function when every owned array is
        shared as it is.
    Rounds are None where SPU's steps make them unknown.
    """

    hoisted: dict[str, dict[str, int]]
    shares: tuple[Share, ...]
    steps: int
    megabytes: float
    rounds: int | None
    steps_without: int
    megabytes_without: float
    rounds_without: int | None

    def as_dicts(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = []
        for owner in dict.fromkeys((*self.hoisted, *(each.owner for each in self.shares))):
            done = self.hoisted.get(owner, {})
            names = ", ".join(f"{count} {name}" for name, count in done.items())
            mine = [each for each in self.shares if each.owner == owner]
            upload = sum(each.upload_bytes for each in mine)
            lines.append(
                f"{owner} computes {sum(done.values())} operations in plaintext"
                f"{f' ({names})' if names else ''} and shares {len(mine)} arrays, {upload / 1e6:.2f} MB:"
            )
            lines += [
                f"  {each.format}[{','.join(map(str, each.shape))}]  {each.path}"
                f"{'' if each.path in each.made_of else '  of ' + ', '.join(each.made_of)}"
                for each in mine
            ]
        lines.append(
            f"the parties: {self.steps} steps, {self.megabytes:.2f} MB each, {_rounds(self.rounds)} rounds; "
            f"without owners {self.steps_without} steps, {self.megabytes_without:.2f} MB, "
            f"{_rounds(self.rounds_without)} rounds"
        )
        return "\n".join(lines)


def _rounds(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def ownership(program: Program, plan: Plan, cost: CostReport, without: CostReport) -> Ownership:
    """Return the facts of a plan, beside the cost of the plan of the same call without owners."""
    hoisted: dict[str, Counter[str]] = {}
    for each in program.preparations:
        names = (name.partition(".")[2] for _, name in each.operations)
        hoisted.setdefault(each.owner, Counter()).update(names)
    shares = []
    for place, (argument, entry) in enumerate(zip(program.arguments, plan.inputs, strict=True)):
        fxp = plan.vars[entry.var].fxp
        if not argument.owner or fxp is None:
            continue
        size = math.prod(argument.shape) * fxp.ring_bits // 8
        made_of = dict.fromkeys(program.call[each].parameter for each in program.sources[place])
        passed = len(program.sources[place]) == 1 and argument == program.call[program.sources[place][0]]
        made = (argument.path,) if passed else tuple(made_of)
        shares.append(
            Share(argument.owner, argument.path, argument.shape, str(fxp), 2 * PARTIES * size, made)
        )
    return Ownership(
        {owner: dict(count.most_common()) for owner, count in hoisted.items()},
        tuple(shares),
        len(cost.rows),
        sum(cost.bytes_sent_per_party) / 3e6,
        cost.rounds,
        len(without.rows),
        sum(without.bytes_sent_per_party) / 3e6,
        without.rounds,
    )
