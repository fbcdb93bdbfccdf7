"""Read the locations of operations: the path in the user's modules, and the line in the user's code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ditto_spu.ir.bindings import Location, Op, context

UNKNOWN_LINE = "unknown source"
_TRACER = "ditto_spu/frontend/trace.py"  # calls the user's function: what comes before it is inside of that
_RUNS = re.compile(r"ditto_spu/(?:frontend|function|api)\b")
_NAME = re.compile(r'loc\((?:callsite\(|fused(?:<[^\[]*>)?\[)*"((?:[^"\\]|\\.)*)"(:\d+:\d+)?')
_WRAPPED = re.compile(r"^(?:vmap|jvp|transpose|checkpoint|remat|custom_jvp|custom_vjp)\((.*)\)$")
_DROPPED = re.compile(r"^(?:jit|pjit|pmap|xla_call)\(.*\)$|^(?:main|pjit|custom_jvp_call|custom_vjp_call)$")
_MODULE_CLASS = re.compile(r"^[A-Z][A-Za-z0-9]*(?:\.\w+)?$")


def name_of(op: Op) -> str:
    """Return JAX's name stack in the location, such as `jit(f)/jit(main)/Encoder/layer_0/add`, or ''."""
    found = _NAME.match(str(op.location))
    return found.group(1) if found and not found.group(2) and "/" in found.group(1) else ""


def path_of(op: Op) -> str:
    """Return the module path of an operation, such as `encoder/layer/0/attention/self`.

    The path is '' in a program without scopes.
    """
    parts = [part for part in map(_unwrap, _split(name_of(op))[:-1]) if part and not _DROPPED.match(part)]
    if "_call_wrapped_method" in str(op.location):
        # Flax puts the class of the outermost module first. This part says nothing new, so it is dropped.
        top = next((i for i, part in enumerate(parts) if _MODULE_CLASS.match(part)), None)
        if top is not None:
            del parts[top]
    return "/".join(parts)


def _split(name: str) -> list[str]:
    """Split at the slashes outside parentheses: `jit(<lambda>)/vmap(a/b)/add` has three parts."""
    return re.split(r"/(?![^()]*\))", name)


def _unwrap(part: str) -> str:
    while found := _WRAPPED.match(part):
        part = found.group(1)
    return part


def source_of(op: Op) -> str:
    """Return `file:line` of the user's code that made the operation, for error messages.

    Code made by `exec` has no file. Then it is the line in that code, with the place that called it.
    """
    lines = [each[:2] for each in _lines(op.location)]
    tracer = _tracer(lines)
    inside, around = lines[:tracer], _with_files(lines[tracer:])
    if own := _with_files(inside):
        return ":".join(own[0])
    fileless = [each for each in inside if each[0].startswith("<")]
    if fileless:
        caller = f", called at {':'.join(around[0])}" if around else ""
        return f"line {fileless[0][1]} of code without a file{caller}"
    return ":".join(lines[0]) if lines else UNKNOWN_LINE


def of_earlier_call(op: Op, call: Op) -> bool:
    """Tell whether an operation in the function that `call` calls has the lines of another call.

    JAX traces a function under `jit` once, so that all later calls show the lines of the first.
    """
    inner, outer = _lines(op.location), _lines(call.location)
    made, called = inner[: _tracer(inner)], outer[: _tracer(outer)]
    whole = len(made) < len(inner) and len(called) < len(outer)  # JAX cuts long chains
    return whole and made[len(made) - len(called) :] != called


def _lines(location: Location) -> list[tuple[str, str, str]]:
    """Return (file, line, column) of all calls on the way to an operation, from the innermost one on."""
    return re.findall(r'"([^"]+)":(\d+):(\d+)', str(location))


def _tracer(lines: Sequence[tuple[str, ...]]) -> int:
    """Return the number of lines inside of the user's function."""
    return next((place for place, each in enumerate(lines) if each[0].endswith(_TRACER)), len(lines))


def _with_files(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the lines of files, but for installed packages and the parts of this one that run functions."""
    return [
        each
        for each in lines
        if "site-packages" not in each[0] and not each[0].startswith("<") and not _RUNS.search(each[0])
    ]


def at_path(path: str, location: Location) -> Location:
    """Return the same place in the user's code under another path of modules."""
    return Location.name(path, childLoc=location, context=context())
