"""One party's SPU: runs compiled programs on our shares (ABY3 over Z_2^64, 18 fraction bits).

Only the files ditto_spu/spu_*.py import spu.
"""

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
    """ABY3 over Z_2^64 with 18 fraction bits.

    The exponential is SPU's most accurate one (Padé), or with `taylor_iters` = n the (1 + x/2^n)^(2^n).
    """
    config = libspu.RuntimeConfig(spu.ProtocolKind.ABY3, spu.FieldType.FM64, FRACTION_BITS)
    modes = libspu.RuntimeConfig.ExpMode
    config.fxp_exp_mode = modes.EXP_TAYLOR if taylor_iters else modes.EXP_PADE
    if taylor_iters:
        config.fxp_exp_iters = taylor_iters
    config.experimental_disable_mmul_split = True
    # A sorting network opens nothing; SPU's other sorts open shuffled comparisons or permutations.
    config.sort_method = libspu.RuntimeConfig.SortMethod.SORT_NETWORK
    config.enable_pphlo_profile = profile
    return config


def create_links(timeout: float = 120.0) -> tuple[Link, Link, Link]:
    """Three connected in-memory links, for three threads of one process; `timeout` seconds a message."""
    description = libspu.link.Desc()
    # SPU finds in-memory peers by id: every triple needs its own.
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
    """A link of this process, party `rank`, to two others.

    addresses: of all three by rank, host:port or unix:path. timeout: seconds a message. within: seconds in
    which the others may start, and then a few attempts a second; SPU's own ten seconds otherwise.
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

    With `profile` it logs what it sends (see spu_profile). All three parties must then do so: each waits for
    the others after every execution, so that all have logged it.
    """

    def __init__(self, link: Link, profile: bool = False, taylor_iters: int = 0) -> None:
        self.rank = link.rank
        self._link = link
        self._profile = profile
        config = runtime_config(profile, taylor_iters)
        self._io = spu.Io(3, config)
        self._runtime = spu.Runtime(link, config)

    def run(self, program: bytes, inputs: Sequence[Shared | NDArray[Any]]) -> list[Shared]:
        """Run a program of compile_program. Secret inputs are Shared, public ones plain arrays.

        All results come back as arithmetic shares in Z_2^64: floats with 18 fraction bits, integers, booleans
        as 0 and 1; a public result enters as component 0 alone.
        """
        executable = libspu.Executable()
        executable.ParseFromString(program)
        name = executable.name
        if len(inputs) != len(executable.input_names):
            count = len(executable.input_names)
            raise InputError(f"'{name}' takes {count} inputs, not {len(inputs)}")
        try:
            # Not a list: each input's copy is freed once SPU has its own.
            shares = (self._as_share(value) for value in inputs)
            outputs = zip(self._execute(executable, shares), executable.output_names, strict=True)
            return [self._arithmetic(each)._replace(kind=name.partition(".")[2]) for each, name in outputs]
        except RuntimeError as error:
            raise PartyError(f"SPU of party {self.rank} failed in '{name}': {reason(error)}") from error

    def close(self) -> None:
        """Close the link. Peers that wait for this party still wait for the link's timeout."""
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
        # Comparisons and conversions end in boolean shares: adding a public zero makes SPU convert them.
        executable = libspu.Executable()
        executable.ParseFromString(_to_arithmetic(kind, shape))
        zero = np.zeros((), np.float32 if kind.startswith("f") else np.int32)
        (converted,) = self._execute(executable, [share, public_share(zero, self.rank, self._io)])
        return from_share(converted, self.rank)


@functools.lru_cache(maxsize=512)
def _to_arithmetic(kind: str, shape: tuple[int, ...]) -> bytes:
    """x + 0 with a zero known at run time only, so that no compiler folds it."""
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
