"""Whose each array of a call is: `public=(...)` and `owner={...}` of `secure`, matched against its pytrees.

A pattern is a parameter's name, or a path below it with dots: `params`, `params.base`, `params.layer.[0-5]`,
`params.**.lora_a`. Each part is matched as a file name is (`*`, `?`, `[0-9]`); `**` stands for any number of
parts; a pattern covers everything below what it names. Where several match, the one with most parts wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ditto_spu.errors import InputError, nearest

PUBLIC = "public"
SHARED = "secret"  # an array without an owner: nobody computes on it in plaintext


@dataclass(frozen=True)
class Claim:
    """What one pattern of the signature says: a level (PUBLIC or an owner's name) for what it matches."""

    pattern: str
    level: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.pattern.split("."))

    @property
    def weight(self) -> int:
        """How specific it is."""
        return sum(part != "**" for part in self.parts)

    @property
    def option(self) -> str:
        return "public" if self.level == PUBLIC else "owner"


def claims(
    public: Sequence[str], owner: Mapping[str, str], parameters: Sequence[str], function: str
) -> tuple[Claim, ...]:
    """The claims of a signature; InputError for a parameter that does not exist or an impossible owner."""
    if isinstance(public, str):
        raise InputError(f"public must be a tuple of parameter names: write public=('{public}',)")
    if not isinstance(owner, Mapping):
        raise InputError('owner must be a dictionary of names: write owner={"params": "server"}')
    for pattern, name in owner.items():
        if not isinstance(name, str) or not name or name in (PUBLIC, SHARED):
            raise InputError(
                f"the owner of '{pattern}' must be a name, not {name!r}: for what everybody may know use "
                "`public`; leave out what no single owner may see"
            )
    found = (*(Claim(each, PUBLIC) for each in public), *(Claim(*each) for each in owner.items()))
    for each in found:
        name = each.parts[0]
        if name not in parameters:
            hint = nearest(name, parameters) if len(parameters) > 1 else ""
            raise InputError(
                f"{each.option} names '{name}', but the parameters of {function} are "
                f"{', '.join(parameters) or 'unknown'}{hint}"
            )
    return found


def levels_of(found: Sequence[Claim], leaves: Sequence[tuple[str, str]]) -> list[str]:
    """PUBLIC, an owner's name or SHARED for each array, given as (parameter, path with slashes)."""
    places = [(parameter, *_below(parameter, path)) for parameter, path in leaves]
    for claim in found:
        if len(claim.parts) > 1:
            _require_match(claim, places)
    levels = []
    for place, (_, path) in zip(places, leaves, strict=True):
        matching = [claim for claim in found if _covers(claim.parts, place)]
        most = max((claim.weight for claim in matching), default=0)
        said = {claim.level: claim for claim in matching if claim.weight == most}
        if len(said) > 1:
            first, second = list(said.values())[:2]
            raise InputError(
                f"argument '{path}' is {_said(first)} by '{first.pattern}' and {_said(second)} by "
                f"'{second.pattern}': make one of them longer, the longer pattern decides"
            )
        levels.append(next(iter(said), SHARED))
    return levels


def _said(claim: Claim) -> str:
    return "public" if claim.level == PUBLIC else f"{claim.level}'s"


def _below(parameter: str, path: str) -> list[str]:
    """The parts of a path below its parameter; those of **kwargs start with their own names."""
    top, *rest = path.split("/")
    return rest if top == parameter else [top, *rest]


def _covers(pattern: Sequence[str], place: Sequence[str]) -> bool:
    """Whether a pattern matches the beginning of a place."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], place[start:]) for start in range(len(place) + 1))
    return bool(place) and fnmatchcase(place[0], pattern[0]) and _covers(pattern[1:], place[1:])


def _require_match(claim: Claim, places: Sequence[Sequence[str]]) -> None:
    """InputError that names the first part which matches nothing, and the nearest that exists."""
    if any(_covers(claim.parts, place) for place in places):
        return
    for count in range(1, len(claim.parts) + 1):
        begun = claim.parts[: count - 1]
        if not any(_covers(claim.parts[:count], place) for place in places):
            around = [place for place in places if _covers(begun, place)]
            known = sorted({place[count - 1] for place in around if len(place) >= count})
            where = ".".join(begun)
            raise InputError(
                f"{claim.option} names '{claim.pattern}', but nothing in '{where}' is called "
                f"'{claim.parts[count - 1]}'{nearest(claim.parts[count - 1], known)}"
            )
