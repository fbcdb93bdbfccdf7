"""Write and read the checkpoints of a training run in a folder.

Orbax writes the arrays. It also writes the facts about the run, such as its step and figures, as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditto_spu.errors import InputError

_KEPT = 2
_PLAN = "plan.json"


class Checkpoints:
    """The checkpoints of one training run.

    Without `resume`, a folder that already holds a run's checkpoints is refused with an InputError. The last
    two checkpoints are kept.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        import orbax.checkpoint as orbax

        self._orbax, self._folder, self._resume = orbax, folder.resolve(), resume
        if not resume and (self._folder / _PLAN).exists():
            raise InputError(
                f"'{folder}' holds the checkpoints of a training: go on with it (--resume), or take another "
                "folder"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        options = orbax.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
        self._manager = orbax.CheckpointManager(self._folder, options=options)
        self._count = self._manager.latest_step() or 0

    def restore(self, like: Any, plan: Any) -> tuple[Any, dict[str, Any]] | None:
        """Return (arrays, facts) of the last checkpoint, or None if there is none.

        like: a pytree with the structure, shapes and dtypes of the arrays.
        plan: JSON data that must equal the plan of the run that wrote the checkpoints. It is written to
            plan.json.

        Raises InputError if the folder holds another plan.
        """
        plan, file = json.loads(json.dumps(plan)), self._folder / _PLAN
        if file.exists() and json.loads(file.read_text(encoding="utf-8")) != plan:
            raise InputError(
                f"'{self._folder.name}' holds checkpoints of a training with other settings: resume with the "
                f"same ones, or take another folder (see {_PLAN} there)"
            )
        file.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
        last = self._manager.latest_step()
        if last is None:
            return None
        shapes = jax.tree_util.tree_map(lambda x: np.zeros(np.shape(x), x.dtype), like)
        items = self._orbax.args.Composite(
            arrays=self._orbax.args.StandardRestore(shapes), facts=self._orbax.args.JsonRestore()
        )
        found = self._manager.restore(last, args=items)
        return jax.tree_util.tree_map(jax.numpy.asarray, found["arrays"]), dict(found["facts"])

    def save(self, arrays: Any, facts: dict[str, Any]) -> None:
        """Write one more checkpoint and delete all but the last two."""
        self._count += 1
        items = self._orbax.args.Composite(
            arrays=self._orbax.args.StandardSave(arrays), facts=self._orbax.args.JsonSave(facts)
        )
        self._manager.save(self._count, args=items)

    def close(self) -> None:
        """Wait until all pending writes have ended."""
        self._manager.close()
