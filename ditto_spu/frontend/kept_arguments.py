"""Handle kept outputs among the arguments of a call, and the names of outputs to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import Traced
from ditto_spu.plan.kept import Kept

Keep = Sequence[int | str]


def is_kept(value: Any) -> bool:
    """Tell whether a leaf of a call is a handle of a kept output."""
    return isinstance(value, Kept)


def abstract(tree: Any) -> Any:
    """Return the same pytree with shapes and dtypes in place of handles."""
    return jax.tree_util.tree_map(lambda each: each.abstract() if is_kept(each) else each, tree)


def refuse(leaves: Sequence[Any], what: str) -> None:
    """Raise InputError for a handle where a value is needed.

    what: the subject of the error message, such as "a calibration".
    """
    for each in leaves:
        if is_kept(each):
            raise InputError(f"{what} needs values, but '{each.path}' stays in shares: pass an array")


def with_formats(traced: Traced, values: Sequence[Any]) -> Traced:
    """Return a traced call in which arguments that are handles keep their formats.

    Raises InputError for a handle as a public argument.
    """
    if not any(map(is_kept, values)):
        return traced
    arguments = []
    for argument, value in zip(traced.arguments, values, strict=True):
        if is_kept(value) and argument.public:
            raise InputError(
                f"argument '{argument.path}' is public, but '{value.path}' stays in shares: only secret "
                "arguments take handles"
            )
        arguments.append(replace(argument, fxp=value.fxp, owner="") if is_kept(value) else argument)
    return replace(traced, arguments=tuple(arguments))


def kept_places(out_tree: Any, keep: Keep) -> frozenset[int]:
    """Return the places of the output arrays that `keep` names.

    keep: keys, fields or indices of the outermost container of the outputs.
    Raises InputError if `keep` is not a sequence of names, or names an output that does not exist.
    """
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise InputError(f"keep is a tuple of names or places of outputs: write keep=({keep!r},)")
    numbered = jax.tree_util.tree_unflatten(out_tree, range(out_tree.num_leaves))
    tops = [_top(path) for path, _ in jax.tree_util.tree_flatten_with_path(numbered)[0]]
    for name in keep:
        if name not in tops:
            known = ", ".join(repr(each) for each in dict.fromkeys(tops) if each is not None)
            known = known or "a single array: return a tuple or a dictionary"
            raise InputError(f"keep names {name!r}, but the outputs are {known}")
    return frozenset(place for place, top in enumerate(tops) if top in keep)


def _top(path: Sequence[Any]) -> int | str | None:
    for field in ("key", "idx", "name"):
        if path and hasattr(path[0], field):
            found: int | str = getattr(path[0], field)
            return found
    return None
