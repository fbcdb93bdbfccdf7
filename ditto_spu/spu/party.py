"""Run compiled programs on our shares at one party's SPU (ABY3 over Z_2^64, 18 fraction bits)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import spu
from numpy.typing import NDArray
from spu import libspu

from ditto_spu.errors import InputError, PartyError
from ditto_spu.spu.compile import compile_program, reason
from ditto_spu.spu.values import (
    ARITHMETIC,
    FRACTION_BITS,
    PUBLIC,
    Shared,
    element_type,
    from_share,
    public_share,
    read_meta,
    tensor_type,
    to_share,
)

Link: TypeAlias = "libspu.link.Context"
_sessions = itertools.count()
_RETRY_MS = 100


def runtime_config(profile: bool = False, taylor_iters: int = 0) -> libspu.RuntimeConfig:
    """Return the configuration of ABY3 over Z_2^64 with 18 fraction bits.

    The exponential is SPU's most accurate one (Padé). With `taylor_iters` = n it is (1 + x/2^n)^(2^n).
    """
    config = libspu.RuntimeConfig(spu.ProtocolKind.ABY3, spu.FieldType.FM64, FRACTION_BITS)
    modes = libspu.RuntimeConfig.ExpMode
    config.fxp_exp_mode = modes.EXP_TAYLOR if taylor_iters else modes.EXP_PADE
    if taylor_iters:
        config.fxp_exp_iters = taylor_iters
    config.experimental_disable_mmul_split = True
    # A sorting network opens nothing. SPU's other sorts open shuffled comparisons or permutations.
    config.sort_method = libspu.RuntimeConfig.SortMethod.SORT_NETWORK
    config.enable_pphlo_profile = profile
    return config


def create_links(timeout: float = 120.0) -> tuple[Link, Link, Link]:
    """Return three connected in-memory links, for three threads of one process.

    A party waits at most `timeout` seconds for a message.
    """
    description = libspu.link.Desc()
    # SPU finds in-memory peers by id, so every triple needs its own.
    description.id = f"ditto-{next(_sessions)}"
    for rank in range(3):
        description.add_party(f"party{rank}", f"thread{rank}")
    description.recv_timeout_ms = round(timeout * 1000)
    first, second, third = (libspu.link.create_mem(description, rank) for rank in range(3))
    return first, second, third


def connect(
    rank: int,
    addresses: Sequence[str],
    session: str = "ditto",
    timeout: float = 120.0,
    within: float | None = None,
) -> Link:
    """Return the link of this process, which is party `rank`, to the two other parties.

    addresses: of all three parties by rank, as host:port or unix:path.
    timeout: how long to wait for a message, in seconds.
    within: seconds within which the other parties must start. There are a few attempts per second. If None,
        SPU's own ten seconds apply.

    Raises InputError unless there are three addresses.
    """
    if len(addresses) != 3:
        raise InputError(f"three addresses are needed, not {len(addresses)}")
    description = libspu.link.Desc()
    description.id = session
    for index, address in enumerate(addresses):
        description.add_party(f"party{index}", address)
    description.recv_timeout_ms = description.http_timeout_ms = round(timeout * 1000)
    if within is not None:
        description.connect_retry_interval_ms = _RETRY_MS
        description.connect_retry_times = max(1, round(within * 1000 / _RETRY_MS))
    return libspu.link.create_brpc(description, rank)


class SpuParty:
    """One party's SPU runtime on a link.

    With `profile` it logs the messages it sends (see `profile.py`). All three parties must then profile: each
    waits for the others after every execution, so that all have logged it.
    """

    def __init__(self, link: Link, profile: bool = False, taylor_iters: int = 0) -> None:
        self.rank = link.rank
        self._link = link
        self._profile = profile
        config = runtime_config(profile, taylor_iters)
        self._io = spu.Io(3, config)
        self._runtime = spu.Runtime(link, config)

    def run(self, program: bytes, inputs: Sequence[Shared | NDArray[Any]]) -> list[Shared]:
        """Run a program of `compile_program`. Secret inputs are Shared, public ones are plain arrays.

        All results are arithmetic shares in Z_2^64. Floats have 18 fraction bits, integers have none, and
        booleans are 0 and 1. A public result enters as component 0 alone.

        Raises InputError for a wrong number of inputs, and PartyError if SPU fails.
        """
        executable = libspu.Executable()
        executable.ParseFromString(program)
        name = executable.name
        if len(inputs) != len(executable.input_names):
            count = len(executable.input_names)
            raise InputError(f"'{name}' takes {count} inputs, not {len(inputs)}")
        try:
            # A generator, not a list, frees the copy of each input once SPU has its own.
            shares = (self._as_share(value) for value in inputs)
            outputs = zip(self._execute(executable, shares), executable.output_names, strict=True)
            return [self._arithmetic(each)._replace(kind=name.partition(".")[2]) for each, name in outputs]
        except RuntimeError as error:
            raise PartyError(f"SPU of party {self.rank} failed in '{name}': {reason(error)}") from error

    def close(self) -> None:
        """Close the link. Peers that wait for this party go on waiting until the link's timeout."""
        self._link.stop_link()

    def _as_share(self, value: Shared | NDArray[Any]) -> libspu.Share:
        return to_share(value) if isinstance(value, Shared) else public_share(value, self.rank, self._io)

    def _execute(self, executable: libspu.Executable, inputs: Iterable[libspu.Share]) -> list[libspu.Share]:
        for name, share in zip(executable.input_names, inputs, strict=True):
            self._runtime.set_var(name, share)
        executable.name = f"{executable.name}@{self.rank}"
        self._runtime.run(executable)
        if self._profile:
            self._link.barrier()
        outputs = [self._runtime.get_var(name) for name in executable.output_names]
        for name in (*executable.input_names, *executable.output_names):
            self._runtime.del_var(name)
        return outputs

    def _arithmetic(self, share: libspu.Share) -> Shared:
        storage, kind, shape = read_meta(share)
        if storage in (ARITHMETIC, PUBLIC):
            return from_share(share, self.rank)
        # Comparisons and conversions end in boolean shares. Adding a public zero makes SPU convert them.
        executable = libspu.Executable()
        executable.ParseFromString(_to_arithmetic(kind, shape))
        zero = np.zeros((), np.float32 if kind.startswith("f") else np.int32)
        (converted,) = self._execute(executable, [share, public_share(zero, self.rank, self._io)])
        return from_share(converted, self.rank)


@functools.lru_cache(maxsize=512)
def _to_arithmetic(kind: str, shape: tuple[int, ...]) -> bytes:
    """Compile x + 0. The zero is known only at run time, so no compiler folds it."""
    number = "f32" if kind.startswith("f") else "i32"
    given, zero, result = (
        tensor_type(shape, element_type(kind)),
        tensor_type((), number),
        tensor_type(shape, number),
    )
    convert = f"%x = stablehlo.convert %arg0 : ({given}) -> {result}" if given != result else ""
    value = "%x" if convert else "%arg0"
    return compile_program(
        f"""func.func public @main(%arg0: {given}, %arg1: {zero}) -> {result} {{
  {convert}
  %zero = stablehlo.broadcast_in_dim %arg1, dims = [] : ({zero}) -> {result}
  %sum = stablehlo.add {value}, %zero : {result}
  return %sum : {result}
}}""",
        (False, True),
        "to_arithmetic",
    )
