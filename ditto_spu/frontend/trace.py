"""Trace a JAX function to StableHLO, find the public arguments, and check a user's call."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import InputError, nearest
from ditto_spu.frontend.owners import PUBLIC, SHARED, claims, levels_of
from ditto_spu.frontend.program_errors import program_errors
from ditto_spu.frontend.random_keys import is_key, numbers
from ditto_spu.frontend.static_arguments import Signature


@dataclass(frozen=True)
class Argument:
    """One array of the user's call, in the order of @main's arguments.

    path: its path, with slashes.
    shape, dtype: its shape, and its dtype as numpy writes it.
    public: whether it is public.
    owner: the owner who alone has the array and may compute on it in plaintext. It is '' for public arrays
        and for arrays without an owner.
    held: whether it serves many calls (`hold`).
    fxp: its format, if it is in shares already.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    public: bool
    owner: str = ""
    held: bool = False
    fxp: Fxp | None = None

    @property
    def parameter(self) -> str:
        """The name under which `hold` takes it."""
        return self.path.split("/")[0]


@dataclass(frozen=True)
class Traced:
    """A traced call.

    module_text: the module, as text with locations.
    in_tree, out_tree: the pytrees of arguments and outputs.
    arguments: one `Argument` per array.
    outputs: shape and dtype of each output.
    """

    module_text: str
    in_tree: Any
    out_tree: Any
    arguments: tuple[Argument, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]

    @property
    def public(self) -> tuple[bool, ...]:
        """Whether each argument of @main is public."""
        return tuple(each.public for each in self.arguments)


def trace(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    public: Sequence[str] = (),
    owner: Mapping[str, str] | None = None,
    held: Collection[str] = (),
) -> Traced:
    """Trace `fn(*args, **kwargs)` as jax.jit would.

    An array may be given as a jax.ShapeDtypeStruct where only the program is wanted.
    static_argnums, static_argnames: as in jax.jit.
    public, owner: as in `secure`.
    held: the parameters given to `hold`.
    Raises InputError for an argument that cannot be shared, for names that match no parameter, and for every
    error of the function itself. Raises UnsupportedOpError where Python needs a value that only a run has,
    as in an `if` on an array.
    """
    kwargs = dict(kwargs or {})
    signature = _signature(fn)
    static = Signature.of(static_argnums, static_argnames).bound_to(fn)
    nums, names = static.places(len(args)), static.all_names(len(args))
    leaves = _leaves(signature, args, kwargs, nums, names)
    known = list(signature.parameters) if signature else list(kwargs)
    said = claims(public, owner or {}, known, getattr(fn, "__name__", "the function"))
    levels = levels_of(said, [(parameter, path) for parameter, path, _ in leaves])
    arguments = []
    for (_, path, leaf), level in zip(leaves, levels, strict=True):
        if is_key(leaf) and level != PUBLIC and 0 not in np.shape(leaf):
            raise InputError(f"argument '{path}' is a random key: name it in `public`, or use it by closure")
        leaf = numbers(leaf)
        _check_leaf(path, leaf, level != SHARED)
        level = PUBLIC if 0 in np.shape(leaf) else level  # an empty array has nothing to hide
        kind, whose = jax.dtypes.result_type(leaf), "" if level in (PUBLIC, SHARED) else level
        argument = Argument(path, tuple(np.shape(leaf)), str(kind), level == PUBLIC, whose)
        arguments.append(replace(argument, held=argument.parameter in held))
    kinds = {each.path: f"{each.dtype}{list(each.shape)}" for each in arguments}
    with program_errors(kinds):
        jitted = jax.jit(fn, keep_unused=True, static_argnums=nums, static_argnames=names)
        traced = jitted.trace(*args, **kwargs)
        lowered = traced.lower()
    outputs = tuple(
        jax.ShapeDtypeStruct(each.shape, each.dtype) for each in jax.tree_util.tree_leaves(traced.out_info)
    )
    module = _module(lowered)
    if any(_is_lapack(op) for op in ir.walk(module.operation)):
        module = _portable(traced) or module
    ir.drop_foreign_attributes(module)
    return Traced(
        ir.text(module, debug_info=True), lowered.in_tree, lowered.out_tree, tuple(arguments), outputs
    )


def _module(lowered: Any) -> ir.Module:
    return ir.parse(lowered.compiler_ir("stablehlo").operation.get_asm(enable_debug_info=True))


def _portable(traced: Any) -> ir.Module | None:
    """Return the program as JAX lowers it for a platform of which it knows nothing, or None if it cannot.

    Linear algebra is no call of LAPACK there.
    """
    try:
        return _module(traced.lower(lowering_platforms=("interpreter",)))
    except (NotImplementedError, ValueError):  # eigenvalues, callbacks
        return None


def _is_lapack(op: ir.Op) -> bool:
    return ir.attribute(op, "call_target_name", "").startswith(("lapack_", "blas_"))


def check_held(fn: Callable[..., Any], held: Mapping[str, Any]) -> None:
    """Refuse to hold anything that is not a parameter of the function, with InputError."""
    signature = _signature(fn)
    for name in held:
        if signature is not None and name not in signature.parameters:
            known = signature.parameters
            raise InputError(
                f"hold names '{name}', but the parameters of {getattr(fn, '__name__', 'the function')} are "
                f"{', '.join(known)}{nearest(name, known) if len(known) > 1 else ''}"
            )


def whole_call(
    fn: Callable[..., Any], held: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all arguments by name: the held ones and those of the call.

    Positional arguments of the call count among the parameters that are not held.
    Raises InputError for too many positional arguments, and for an argument that is given twice.
    """
    signature = _signature(fn)
    parameters = {} if signature is None else signature.parameters
    left = [
        name
        for name, each in parameters.items()
        if name not in held and each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    if len(args) > len(left):
        raise InputError(
            f"{len(args)} positional arguments, but beside what is held ({', '.join(held)}) there are only "
            f"{', '.join(left) or 'none'}: pass the others by name"
        )
    named = dict(zip(left, args, strict=False))
    for name in kwargs:
        if name in held or name in named:
            raise InputError(
                f"argument '{name}' is given twice: {'it is held' if name in held else 'by position'}"
            )
    return {**held, **named, **kwargs}


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None  # some builtins have none


def _leaves(
    signature: inspect.Signature | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    nums: tuple[int, ...],
    names: tuple[str, ...],
) -> list[tuple[str, str, Any]]:
    """Return (parameter, path, leaf) of every array, in the order in which jax.jit flattens them."""
    tops = [(_parameter(signature, i), i, arg) for i, arg in enumerate(args)]
    found = []
    for parameter, index, arg in tops:
        if index in nums:
            _check_static(parameter, arg)
        else:
            variadic = signature is not None and _is_variadic(signature, parameter)
            position = list(signature.parameters).index(parameter) if signature and variadic else 0
            top = f"{parameter}/{index - position}" if variadic else parameter
            found += [(parameter, *each) for each in _flatten(top, arg)]
    for name in sorted(kwargs):
        if name in names:
            _check_static(name, kwargs[name])
        else:
            known = signature is None or name in signature.parameters
            parameter = name if known else _keyword_catcher(signature)
            found += [(parameter, *each) for each in _flatten(name, kwargs[name])]
    return found


def _parameter(signature: inspect.Signature | None, index: int) -> str:
    if signature is None:
        return f"argument {index}"
    names = [name for name, each in signature.parameters.items() if each.kind is not each.KEYWORD_ONLY]
    # If there are more arguments than names, they belong to *args, or JAX's own message about the call
    # follows.
    for i, name in enumerate(names):
        if i == index or signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            return name
    return f"argument {index}"


def _is_variadic(signature: inspect.Signature, name: str) -> bool:
    found = signature.parameters.get(name)
    return found is not None and found.kind is inspect.Parameter.VAR_POSITIONAL


def _keyword_catcher(signature: inspect.Signature | None) -> str:
    parameters = signature.parameters.items() if signature else ()
    return next((name for name, each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD), "")


def _flatten(top: str, tree: Any) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [("/".join((top, *map(_key, keys))), leaf) for keys, leaf in flat]


def _key(key: Any) -> str:
    for field in ("key", "idx", "name"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def _check_static(name: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        raise InputError(
            f"static argument '{name}' is a {type(value).__name__}, which has no hash: pass a tuple, a "
            f"string, a number or a frozen dataclass, or make it an ordinary argument"
        ) from None


_ARRAYS: tuple[type, ...] = (np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct, int, float, complex)


def _described(leaf: Any) -> str:
    array = isinstance(leaf, np.ndarray)
    return f"an array of {leaf.dtype} elements" if array else f"a {type(leaf).__name__}"


def _check_leaf(path: str, leaf: Any, plain: bool) -> None:
    """Refuse an argument that cannot be shared among the parties, and name it in the message.

    plain: whether the argument is public or has an owner. Such an argument may hold NaN.
    """
    if isinstance(leaf, jax.core.Tracer):
        raise InputError(
            f"argument '{path}' is an array that jax.jit, jax.grad or jax.vmap traces, which has no value to "
            "share: call the secure function outside of them, and use them inside of it"
        )
    try:
        kind = jax.dtypes.result_type(leaf)
    except (TypeError, ValueError):
        kind = None
    if kind is None or not isinstance(leaf, _ARRAYS):
        raise InputError(
            f"argument '{path}' is {_described(leaf)}, not an array or number: convert it, or name its "
            f"parameter in static_argnames"
        )
    if jax.dtypes.issubdtype(kind, np.complexfloating):
        raise InputError(f"argument '{path}' is complex: pass its real and imaginary parts as two arrays")
    if str(kind) not in ir.DTYPES.values():
        raise InputError(
            f"argument '{path}' has dtype {kind}, which cannot be shared: use a float, integer or bool"
        )
    if plain or isinstance(leaf, jax.ShapeDtypeStruct) or not jax.dtypes.issubdtype(kind, np.floating):
        return
    finite = np.isfinite(np.asarray(leaf, np.float64))
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
            f"secret argument '{path}' holds NaN or infinity (first at {list(index)}), which fixed "
            f"point cannot represent: replace it by a finite number; give a mask of -inf as a public boolean"
        )
