"""Plans as JSON: explicit tables list what a plan may have, and no code is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import InputError
from ditto_spu.plan.plan import Input, KernelStep, LocalInput, LocalStep, Plan, PublicStep, SpuStep, Var

VERSION = 2  # of this form and of what steps mean; a release that changes either counts on
_STEPS: Mapping[str, type] = {"public": PublicStep, "local": LocalStep, "kernel": KernelStep, "spu": SpuStep}
_KINDS = {made: kind for kind, made in _STEPS.items()}
_TEXT_STEPS = ("public", "local", "spu")


def encode_plan(plan: Plan) -> bytes:
    """Return a plan as JSON, in UTF-8. `decode_plan` gives an equal plan.

    Raises InputError for an attribute whose type cannot be sent.
    """
    data = {
        "name": plan.name,
        "config": plan.config,
        "vars": [[list(v.shape), v.dtype, _format(v.fxp), v.path, v.range] for v in plan.vars],
        "inputs": [[each.path, each.var, each.made] for each in plan.inputs],
        "steps": [_step(step) for step in plan.steps],
        "outputs": list(plan.outputs),
        "stages": [list(stage) for stage in plan.stages],
        "mask_dealer": plan.mask_dealer,
        "guard": plan.guard,
    }
    return json.dumps(data, separators=(",", ":")).encode()


def decode_plan(data: bytes) -> Plan:
    """Return the plan in `data`. Raises InputError if `encode_plan` does not write plans like it.

    `check_plan` says whether the plan makes sense.
    """
    try:
        table = json.loads(data)
        return Plan(
            name=_text(table["name"]),
            config=_text(table["config"]),
            vars=tuple(_read_var(*each) for each in _list(table["vars"])),
            inputs=tuple(
                Input(_text(path), _number(var), _text(made)) for path, var, made in _list(table["inputs"])
            ),
            steps=tuple(_read_step(each) for each in _list(table["steps"])),
            outputs=_numbers(table["outputs"]),
            stages=tuple(_numbers(stage) for stage in _list(table["stages"])),
            mask_dealer=None if table["mask_dealer"] is None else _number(table["mask_dealer"]),
            guard=None if table["guard"] is None else _number(table["guard"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"what was sent is no plan: {type(error).__name__}: {str(error)[:200]}") from None


def _step(step: Any) -> dict[str, Any]:
    kind = _KINDS[type(step)]
    made: dict[str, Any] = {"kind": kind, "path": step.path, "outputs": list(step.outputs)}
    if isinstance(step, LocalStep):
        made["inputs"] = [[each.var, each.use, _format(each.fxp)] for each in step.inputs]
    else:
        made["inputs"] = list(step.inputs)
    if isinstance(step, KernelStep):
        attributes = [[name, _attribute(value)] for name, value in step.attributes]
        made |= {"kernel": step.kernel, "attributes": attributes}
        return made | {"dealers": list(step.dealers), "worth": step.worth}
    return made | {"text": step.text}


def _read_step(table: Any) -> Any:
    kind, path, outputs = table["kind"], _text(table["path"]), _numbers(table["outputs"])
    if kind == "kernel":
        attributes = tuple(
            (_text(name), _read_attribute(value)) for name, value in _list(table["attributes"])
        )
        inputs, dealers, worth = (
            _numbers(table["inputs"]),
            _numbers(table["dealers"]),
            _number(table["worth"]),
        )
        return KernelStep(path, _text(table["kernel"]), inputs, outputs, attributes, dealers, worth)
    if kind not in _TEXT_STEPS:
        raise ValueError(f"there is no kind {kind!r:.40} of steps")
    if kind == "local":
        local = tuple(
            LocalInput(_number(var), _text(use), _read_format(fxp))
            for var, use, fxp in _list(table["inputs"])
        )
        return LocalStep(path, _text(table["text"]), local, outputs)
    return _STEPS[kind](path, _text(table["text"]), _numbers(table["inputs"]), outputs)


def _attribute(value: object) -> Any:
    """Return an attribute as JSON: a tuple as a list, a format as {"fxp": ...}, other values as they are."""
    if isinstance(value, Fxp):
        return {"fxp": str(value)}
    if isinstance(value, tuple):
        return [_attribute(each) for each in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(f"a plan's attribute of type {type(value).__name__} cannot be sent")


def _read_attribute(value: Any) -> object:
    if isinstance(value, dict):
        return Fxp.parse(_text(value["fxp"]))
    return tuple(_read_attribute(each) for each in value) if isinstance(value, list) else value


def _read_var(shape: Any, dtype: Any, fxp: Any, path: Any, bound: Any) -> Var:
    if bound is not None and type(bound) not in (int, float):
        raise TypeError("a declared range is a number")
    return Var(_numbers(shape), _text(dtype), _read_format(fxp), _text(path), bound)


def _format(fxp: Fxp | None) -> str | None:
    return None if fxp is None else str(fxp)


def _read_format(text: Any) -> Fxp | None:
    return None if text is None else Fxp.parse(_text(text))


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError("a list is expected")
    return values


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(_number(each) for each in _list(values))


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"a natural number is expected, not {value!r:.40}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is expected, not {value!r:.40}")
    return value
