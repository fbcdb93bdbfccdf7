"""Compile LLVM IR for this processor by llvmlite, into functions that Python calls through ctypes.

A call releases the GIL. Compiling the products of a ring takes 0.05 to 0.1 s, so nothing is kept on disk.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llvmlite import binding as llvm

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
    """Compiled functions by name. `engine` owns their memory."""

    functions: Mapping[str, Callable[..., None]]
    engine: Any = field(repr=False)


def processor() -> Processor:
    """Return this processor. Raises RuntimeError if LLVM does not know it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    has = llvm.get_host_cpu_features()
    name, features = llvm.get_host_cpu_name(), has.flatten()
    if all(has.get(each) for each in ("avx512f", "avx512bw", "avx512dq")):
        return Processor(name, f"{features},-prefer-256-bit", 64, 32)
    if has.get("avx2"):
        return Processor(name, features, 32, 16)
    return Processor(name, features, 16, 32 if has.get("neon") else 16)


def compiled(text: str, symbols: Sequence[Symbol], target: Processor) -> Code:
    """Compile a module and return its functions. Raises RuntimeError if LLVM refuses it."""
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=target.name, features=target.features, opt=3
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    functions = {
        name: ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * pointers, *[ctypes.c_int64] * integers)(
            engine.get_function_address(name)
        )
        for name, pointers, integers in symbols
    }
    return Code(functions, engine)
