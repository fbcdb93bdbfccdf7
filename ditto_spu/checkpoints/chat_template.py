"""Render the chat template of a checkpoint, which is a Jinja program by whoever made the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ditto_spu.errors import InputError

Message = Mapping[str, str]


def render(template: str, messages: Sequence[Message], special: Mapping[str, str]) -> str:
    """Return a conversation as the text that the model was trained on, ready for the model's answer.

    messages: dictionaries with "role" and "content". special: texts of special tokens, such as "eos_token".
    The template runs in Jinja's sandbox. Raises InputError if it refuses the messages.
    """
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise InputError(
            "chat templates need one more package: run `pip install ditto-spu[checkpoints]`, or give "
            "plain text"
        ) from None

    def refuse(reason: str) -> Any:
        raise TemplateError(reason)

    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise InputError(f"a message of a chat has a role and a content, and this has not: {message!r}")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(template).render(
            messages=list(messages), add_generation_prompt=True, **special
        )
    except TemplateError as error:
        raise InputError(f"the chat template of the checkpoint refuses these messages: {error}") from None
