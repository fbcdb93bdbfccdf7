"""Run a program on SPU's ABY3 over Z_2^32, for comparison only.

Many results are wrong there, and products of matrices crash. Callers run it in a process of its own and check
the error of the result.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spu
from numpy.typing import NDArray
from spu import libspu

from ditto_spu.errors import UnsupportedOpError
from ditto_spu.spu.compile import compile_program
from ditto_spu.spu.party import Link, create_links, runtime_config
from ditto_spu.spu.profile import log_to, read_costs

# Ditto computes with 8 bits. With 12, powers overflow and 1/x is refused all the same.
FRACTION_BITS = 8


def run_fm32(
    text: str, arrays: Sequence[NDArray[Any]], timeout: float = 60.0
) -> tuple[NDArray[Any], float, int, tuple[int, ...]]:
    """Run a StableHLO module whose arguments are all secret.

    Returns the first output, the seconds of the slowest party, the bytes sent by all parties, and the
    messages by rank. Products of matrices and convolutions raise UnsupportedOpError: the wheel's 32-bit
    product is misaligned and ends the process.
    """
    if "stablehlo.dot" in text or "stablehlo.convolution" in text:
        raise UnsupportedOpError("SPU's products of matrices over 32 bits end the process: use 64 bits")
    program = compile_program(text, (False,) * len(arrays), "fm32", stock=True)
    config = runtime_config(profile=True, taylor_iters=5)
    config.field, config.fxp_fraction_bits = spu.FieldType.FM32, FRACTION_BITS
    io = spu.Io(3, config)
    shares = [io.make_shares(np.asarray(array), spu.Visibility.VIS_SECRET) for array in arrays]
    done: queue.SimpleQueue[tuple[int, Any, float] | BaseException] = queue.SimpleQueue()

    def work(link: Link) -> None:
        try:
            executable = libspu.Executable()
            executable.ParseFromString(program)
            executable.name = f"{executable.name}@{link.rank}"
            runtime = spu.Runtime(link, config)
            for name, parts in zip(executable.input_names, shares, strict=True):
                runtime.set_var(name, parts[link.rank])
            link.barrier()
            started = time.perf_counter()
            runtime.run(executable)
            seconds = time.perf_counter() - started
            link.barrier()
            done.put((link.rank, runtime.get_var(executable.output_names[0]), seconds))
        except BaseException as error:
            done.put(error)

    with tempfile.TemporaryDirectory(prefix="ditto-fm32-") as folder:
        log_to(Path(folder) / "spu.log")
        for link in create_links(timeout):
            threading.Thread(target=work, args=(link,), daemon=True).start()
        parties = []
        for _ in range(3):
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            parties.append(result)
        (cost,) = read_costs(Path(folder) / "spu.log")
    parties.sort(key=lambda party: party[0])
    output = io.reconstruct([part for _, part, _ in parties])
    return output, max(seconds for _, _, seconds in parties), sum(cost.bytes_sent), cost.messages
