"""Tell what the compilation of a call depends on."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ditto_spu.frontend.kept_arguments import abstract, is_kept
from ditto_spu.frontend.static_arguments import Signature


def compilation_key(signature: Signature, args: Any, kwargs: Any) -> Any:
    """Return a hashable key of everything that a compilation of the call depends on.

    None means that something cannot be hashed, or that JAX traces the call. Nothing is cached then.
    """
    dynamic = signature.dynamic(args, kwargs)
    formats = tuple(str(each.fxp) for each in jax.tree_util.tree_leaves(dynamic) if is_kept(each))
    leaves, tree = jax.tree_util.tree_flatten(abstract(dynamic))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(dynamic)):
        return None
    try:
        shapes = tuple((np.shape(leaf), str(jax.dtypes.result_type(leaf))) for leaf in leaves)
        static = signature.static(args, kwargs)
        key = (static, tree, shapes, formats, str(jax.dtypes.canonicalize_dtype(np.int64)))
        hash(key)
    except TypeError:
        return None
    return key
