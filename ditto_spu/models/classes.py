"""Find Flax classes of transformers by name, and repair one that fails with the installed JAX."""

from __future__ import annotations

from typing import Any


def flax_class(name: str) -> Any:
    """Return the class of that name, repaired if necessary."""
    import transformers

    found = getattr(transformers, name)
    return _answering(found) if name == "FlaxDistilBertForQuestionAnswering" else found


def _answering(found: Any) -> Any:
    """Repair DistilBERT's class for question answering.

    The original calls an array method, `split`, that JAX's arrays do not have.
    """
    import jax.numpy as jnp
    from transformers.models.distilbert.modeling_flax_distilbert import (
        FlaxDistilBertForQuestionAnsweringModule,
        FlaxQuestionAnsweringModelOutput,
    )

    class Module(FlaxDistilBertForQuestionAnsweringModule):
        def __call__(self, ids: Any, mask: Any, deterministic: bool = True, *_: Any, **__: Any) -> Any:
            hidden = self.distilbert(ids, mask, deterministic=deterministic, return_dict=True)[0]
            logits = self.qa_outputs(self.dropout(hidden, deterministic=deterministic))
            start, end = jnp.split(logits, self.config.num_labels, axis=-1)
            return FlaxQuestionAnsweringModelOutput(
                start_logits=start.squeeze(-1), end_logits=end.squeeze(-1)
            )

    class Model(found):
        module_class = Module

    return Model
