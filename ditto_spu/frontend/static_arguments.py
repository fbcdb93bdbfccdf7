"""Tell the static arguments of a call, and what its compilation depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ditto_spu.frontend.kept_arguments import abstract, is_kept


@dataclass(frozen=True)
class Signature:
    """The static arguments of a function, as in jax.jit: by place and by name."""

    nums: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, nums: int | Sequence[int], names: str | Sequence[str]) -> Signature:
        """Make a signature from what a user may write: a number, a name, or a sequence of them."""
        return cls(
            (nums,) if isinstance(nums, int) else tuple(int(each) for each in nums),
            (names,) if isinstance(names, str) else tuple(str(each) for each in names),
        )

    @property
    def options(self) -> dict[str, Any]:
        """The static arguments as options of jax.jit."""
        return {"static_argnums": self.nums, "static_argnames": self.names}

    def dynamic(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that are not static."""
        return (
            tuple(arg for index, arg in enumerate(args) if index not in self.nums),
            {key: kwargs[key] for key in kwargs if key not in self.names},
        )

    def leaves(self, args: Any, kwargs: Any) -> list[Any]:
        """Return the arrays of a call, in the order of its program's arguments."""
        return jax.tree_util.tree_leaves(self.dynamic(args, kwargs))

    def key(self, args: Any, kwargs: Any) -> Any:
        """Return a hashable key of everything that a compilation of the call depends on.

        None means that something cannot be hashed. Nothing is cached then.
        """
        static = (
            tuple(arg for index, arg in enumerate(args) if index in self.nums),
            tuple(sorted((key, kwargs[key]) for key in kwargs if key in self.names)),
        )
        dynamic = self.dynamic(args, kwargs)
        formats = tuple(str(each.fxp) for each in jax.tree_util.tree_leaves(dynamic) if is_kept(each))
        leaves, tree = jax.tree_util.tree_flatten(abstract(dynamic))
        try:
            shapes = tuple((np.shape(leaf), str(jax.dtypes.result_type(leaf))) for leaf in leaves)
            key = (static, tree, shapes, formats, str(jax.dtypes.canonicalize_dtype(np.int64)))
            hash(key)
        except TypeError:
            return None
        return key
