"""Measure one kernel on SPU over Z_2^32, in a process that may die of it.

Usage: `python -m bench.fm32 NAME REPEAT [small]`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from bench.kernel_cases import KernelCase, kernel_cases
from ditto_spu import ir
from ditto_spu.compare.puma import puma_module
from ditto_spu.compare.stock_spu_fm32 import run_fm32
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse

ANSWER = "fm32-answer "
TIMEOUT = 180.0


def measure_fm32(name: str, repeat: int, small: bool) -> dict[str, Any] | None:
    """Return seconds, bytes of all parties, messages and error, or None if SPU refuses, dies or hangs."""
    command = [sys.executable, "-m", "bench.fm32", name, str(repeat), *(["small"] if small else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return None
    for line in done.stdout.splitlines():
        if line.startswith(ANSWER):
            answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
            return answer
    return None


def _run(case: KernelCase, repeat: int) -> dict[str, Any]:
    assert case.function is not None
    traced = trace(case.function, case.arrays, None, (), (), ())
    text = ir.text(puma_module(fuse(ir.parse(traced.module_text), traced.public), traced.public))
    runs = [run_fm32(text, case.arrays) for _ in range(repeat)]
    output, _, sent, messages = runs[-1]
    error = np.max(np.abs(np.asarray(output, np.float64) - np.asarray(case.function(*case.arrays))))
    return {
        "seconds_all": [seconds for _, seconds, _, _ in runs],
        "bytes_sent": sent,
        "messages_per_party": messages,
        "max_abs_error": float(error),
    }


def main(name: str, repeat: str, small: str = "") -> None:
    """Measure a kernel and print one line of JSON."""
    (case,) = (each for each in kernel_cases(bool(small)) if each.name == name)
    print(ANSWER + json.dumps(_run(case, int(repeat))), flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(error, file=sys.stderr)
    sys.stdout.flush()
    os._exit(0)  # threads of a failed party may still wait inside SPU
