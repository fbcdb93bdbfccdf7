"""Compile LLVM IR for this processor by llvmlite, into functions that Python calls through ctypes.

A call releases the GIL. Compiling the products of a ring takes 0.05 to 0.1 s, so nothing is kept on disk.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import binding as llvm
from numpy.typing import NDArray

from ditto_kernels.machine.fields import FIELD, elements_are_found
from ditto_kernels.machine.ir_text import Symbol


@dataclass(frozen=True)
class Processor:
    """What the compiler has to know about the processor.

    vector_bytes and registers: of the vectors that it computes with.
    """

    name: str
    features: str
    vector_bytes: int
    registers: int


@dataclass(frozen=True, eq=False)
class Code:
    """Compiled functions by name. Each owns the memory of its code."""

    functions: Mapping[str, Callable[..., None]]


def processor() -> Processor:
    """Return this processor.

    Raises RuntimeError if LLVM does not know it, and OSError if code may not be made at run time.
    """
    _make_executable()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    has = llvm.get_host_cpu_features()
    name, features = llvm.get_host_cpu_name(), has.flatten()
    if all(has.get(each) for each in ("avx512f", "avx512bw", "avx512dq")):
        return Processor(name, f"{features},-prefer-256-bit", 64, 32)
    if has.get("avx2"):
        return Processor(name, features, 32, 16)
    return Processor(name, features, 16, 32 if has.get("neon") else 16)


def _make_executable() -> None:
    """Make a page executable, as LLVM does with its code, which would end the process if that is forbidden.

    Raises OSError where it is, such as in services that systemd starts with MemoryDenyWriteExecute.
    """
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        byte = ctypes.c_char.from_buffer(page)
        address, rights = ctypes.c_void_p(ctypes.addressof(byte)), mmap.PROT_READ | mmap.PROT_EXEC
        del byte  # A page in use cannot be closed.
        if ctypes.CDLL(None, use_errno=True).mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), rights):
            raise OSError(ctypes.get_errno(), "code that is made at run time may not be executed")


def compiled(text: str, symbols: Sequence[Symbol], target: Processor) -> Code:
    """Compile a module and return its functions. Raises RuntimeError if LLVM refuses it."""
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=target.name, features=target.features, opt=3
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    functions: dict[str, Callable[..., None]] = {}
    for name, pointers, integers in symbols:
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * integers)
        function = kind(engine.get_function_address(name))
        # Two threads that need the same code first compile it twice, and a cache keeps one of the two. The
        # other one has to live as long as its functions, one of which is just being called.
        function.engine = engine  # type: ignore[attr-defined]
        functions[name] = function
    return Code(functions)


def addresses(*arrays: NDArray[Any]) -> list[int]:
    """Return where the elements of arrays lie. The arrays have to outlive the call that gets them."""
    if elements_are_found():
        return [ctypes.c_int64.from_address(id(each) + FIELD).value for each in arrays]
    return [each.__array_interface__["data"][0] for each in arrays]
