"""Fill the parameters of a Flax module from a checkpoint, whether torch or Flax wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.stored import Checkpoint
from ditto_spu.errors import InputError

# Buffers that torch stores and Flax computes.
BUFFERS = r"(.*\.)?(position_ids|token_type_ids|inv_freq|masked_bias|attn\.bias|num_batches_tracked)"
_TORCH = {
    "kernel": ("weight",),
    "scale": ("weight", "gamma"),
    "embedding": ("weight",),
    "bias": ("bias", "beta"),
}
_SHOWN = 3  # names in an error


def fill(
    wanted: Mapping[tuple[str, ...], tuple[int, ...]],
    checkpoint: Checkpoint,
    *,
    what: str,
    base: str = "",
    spare: str = BUFFERS,
) -> dict[str, Any]:
    """Return the parameters of a module as a nested dictionary of float32 arrays.

    wanted: the shape of each parameter, by its path in Flax.
    what: the name of the module, for errors.
    base: the name of the part that stands without this prefix in some checkpoints.
    spare: a regular expression of tensors that the module does not need.

    Kernels of torch are transposed. Raises InputError, with names, for parameters that the checkpoint lacks,
    for tensors of another shape, and for tensors that the module does not know.
    """
    from flax.traverse_util import unflatten_dict

    taken, missing, wrong = {}, [], []
    used = set()
    for path, shape in wanted.items():
        found = next((each for each in _names(path, base) if each[0] in checkpoint.tensors), None)
        if found is None:
            missing.append(".".join(path))
            continue
        name, transposed = found
        used.add(name)
        stored = checkpoint.tensors[name]
        if stored.shape != (expected := _in_torch(tuple(shape), transposed)):
            wrong.append(f"'{name}' is {list(stored.shape)} and not {list(expected)}")
            continue
        taken[path] = (stored, transposed)
    extra = [name for name in checkpoint.tensors if name not in used and not re.fullmatch(spare, name)]
    source = checkpoint.source
    if missing:
        raise InputError(
            f"{source} lacks {len(missing)} weights of {what}, such as {_some(missing)}: "
            "give a checkpoint that was trained for this task, and all of its shards"
        )
    if wrong:
        raise InputError(
            f"{source} has {len(wrong)} weights of another shape than its settings say: "
            f"{'; '.join(wrong[:_SHOWN])}: give the config.json that belongs to the weights"
        )
    if extra:
        raise InputError(
            f"{source} has {len(extra)} weights that {what} does not know, such as {_some(extra)}: it would "
            "compute another function without them; give a checkpoint of the family and task that is named"
        )
    return dict(unflatten_dict({path: _array(*each) for path, each in taken.items()}))


def shapes(tree: Any) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Return the shape of each leaf of a nested dictionary, by its path."""
    from flax.core import unfreeze
    from flax.traverse_util import flatten_dict

    return {path: tuple(leaf.shape) for path, leaf in flatten_dict(unfreeze(tree)).items()}


def _names(path: tuple[str, ...], base: str) -> Iterator[tuple[str, bool]]:
    """Yield the names that a parameter may have in a file, and whether torch stores it transposed there."""
    *stem, last = path
    stems = [stem]
    if base:
        stems.append(stem[1:] if stem[:1] == [base] else [base, *stem])
    for each in stems:
        yield ".".join([*each, last]), False
        for name in _TORCH.get(last, ()):
            yield ".".join([*each, name]), last == "kernel"


def _in_torch(shape: tuple[int, ...], transposed: bool) -> tuple[int, ...]:
    # Torch keeps (out, in) and (out, in, height, width), and Flax (in, out) and (height, width, in, out).
    return (*shape[:-3:-1], *shape[:-2]) if transposed else shape


def _array(stored: Any, transposed: bool) -> NDArray[np.float32]:
    array: NDArray[np.float32] = stored.read()
    if transposed:
        array = array.transpose(*range(2, array.ndim), 1, 0)
    return np.ascontiguousarray(array)


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN])
