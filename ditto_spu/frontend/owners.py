"""Match `public=(...)` and `owner={...}` of `secure` with the arrays of a call.

A pattern is a parameter's name, or a path below it with dots: `params`, `params.base`, `params.layer.[0-5]`,
`params.**.lora_a`. Each part is matched as a file name is (`*`, `?`, `[0-9]`), and `**` stands for any number
of parts. A pattern covers everything below the array or container that it names. Where several patterns
match, the one with most parts wins.
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
    """The statement of one pattern of the signature.

    pattern: the pattern.
    level: PUBLIC or an owner's name, for every array that the pattern matches.
    """

    pattern: str
    level: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the pattern."""
        return tuple(self.pattern.split("."))

    @property
    def weight(self) -> int:
        """The number of parts that are not `**`. It says how specific the pattern is."""
        return sum(part != "**" for part in self.parts)

    @property
    def option(self) -> str:
        """The option of `secure` that the claim comes from, for error messages."""
        return "public" if self.level == PUBLIC else "owner"


def claims(
    public: Sequence[str], owner: Mapping[str, str], parameters: Sequence[str], function: str
) -> tuple[Claim, ...]:
    """Return the claims of a signature.

    parameters: the names of the function's parameters.
    function: the name of the function, for error messages.
    Raises InputError for a parameter that does not exist, and for an impossible owner.
    """
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
    """Return the level of each array: PUBLIC, an owner's name or SHARED.

    leaves: (parameter, path with slashes) of each array.
    Raises InputError for a pattern that matches nothing, and for two equally long patterns that disagree.
    """
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
    """Return the parts of a path below its parameter. Paths of **kwargs start with their own names."""
    top, *rest = path.split("/")
    return rest if top == parameter else [top, *rest]


def _covers(pattern: Sequence[str], place: Sequence[str]) -> bool:
    """Tell whether a pattern matches the beginning of a place."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], place[start:]) for start in range(len(place) + 1))
    return bool(place) and fnmatchcase(place[0], pattern[0]) and _covers(pattern[1:], place[1:])


def _require_match(claim: Claim, places: Sequence[Sequence[str]]) -> None:
    """Raise InputError if a claim matches nothing.

    The message names the first part that matches nothing, and the nearest name that exists.
    """
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
