"""`--case kernels`: each kernel alone, ours beside the same function on stock SPU over 64 and 32 bits."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from bench.fm32 import measure_fm32
from bench.kernel_cases import KernelCase, kernel_cases
from ditto_kernels import KERNELS
from ditto_kernels.protocol.link import MemLink, Traffic
from ditto_kernels.protocol.party import Party, run
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.values.formats import decode, encode
from ditto_kernels.values.replicated import Rss, reconstruct, share
from ditto_spu.compare.puma import run_puma

OURS, FM64, FM32 = "ours", "spu-fm64", "spu-fm32"
Row = dict[str, Any]


def kernel_rows(
    repeat: int,
    say: Callable[[str], None],
    small: bool = False,
    names: Sequence[str] | None = None,
    peers: bool = True,
) -> list[Row]:
    """One row a kernel and side. Seconds have the dealer's work in them, and exclude compiling and sharing.

    names: only these cases. peers: SPU as well, turn by turn with ours; its 32-bit runs have a process of
    their own, since some end it.
    """
    rows = []
    for case in kernel_cases(small):
        if names is not None and case.name not in names:
            continue
        say(f"kernels: {case.name}")
        with_spu = peers and case.function is not None
        sides: dict[str, list[tuple[Row, float]]] = {OURS: [], **({FM64: []} if with_spu else {})}
        _ours(case)  # compiles
        for _ in range(repeat):
            for side, runs in sides.items():
                runs.append(_ours(case) if side == OURS else _fm64(case))
        rows += [_row(case, side, runs[-1][0], [each[1] for each in runs]) for side, runs in sides.items()]
        narrow = measure_fm32(case.name, repeat, small) if with_spu else None
        if narrow is not None:
            row = {
                "online_bytes": narrow["bytes_sent"],
                "offline_bytes": 0,
                "rounds": None,
                "messages_per_party": narrow["messages_per_party"],
                "max_abs_error": narrow["max_abs_error"],
            }
            rows.append(_row(case, FM32, row, narrow["seconds_all"]))
    return rows


def _row(case: KernelCase, side: str, measured: Row, seconds: list[float]) -> Row:
    count = elements(case)
    middle = statistics.median(seconds)
    return {
        "case": "kernels",
        "kernel": case.name,
        "config": side,
        "formats": case.formats if side == OURS else "fxp64.18" if side == FM64 else "fxp32.8",
        "elements": count,
        "seconds": middle,
        "seconds_all": seconds,
        "ns_per_element": middle / count * 1e9,
        "online_bits_per_element": 8 * measured["online_bytes"] / count,
        "offline_bits_per_element": 8 * measured["offline_bytes"] / count,
        "rounds": measured["rounds"],
        "messages_per_party": list(measured["messages_per_party"]),
        "max_abs_error": measured["max_abs_error"],
    }


def _expected(case: KernelCase) -> np.ndarray[Any, Any]:
    """The exact result on the arrays as they are: rounding them to a format counts as error."""
    wide = [array.astype(np.float64) if array.dtype == np.float32 else array for array in case.arrays]
    return np.asarray(KERNELS[case.kernel].reference(*wide, **case.attributes))


def elements(case: KernelCase) -> int:
    """What costs are divided by: elements of the result, or of what is reduced."""
    return case.arrays[0].size if case.kernel == "reduce_max" else _expected(case).size


def _ours(case: KernelCase) -> tuple[Row, float]:
    shares = [share(encode(array, fxp), fxp, os.urandom) for array, fxp in case.operands]
    barrier = threading.Barrier(3)

    def program(party: Party, link: MemLink) -> tuple[Rss, float]:
        operands = [each[party.rank] for each in shares]
        barrier.wait()
        started = time.perf_counter()
        result = run(link, KERNELS[case.kernel].run(party, *operands, out=case.out, **case.attributes))
        result = Rss(np.asarray(result.mine), np.asarray(result.next), result.fxp)
        return result, time.perf_counter() - started

    parties, traffic = run_three(program, timeout=300)
    value = decode(reconstruct([result for result, _ in parties]), case.out)
    return _measured(value, _expected(case), traffic), max(seconds for _, seconds in parties)


def _measured(value: Any, expected: Any, traffic: Sequence[Traffic]) -> Row:
    return {
        "online_bytes": sum(each.bytes_sent for each in traffic),
        "offline_bytes": sum(each.offline_bytes for each in traffic),
        "rounds": max(each.rounds for each in traffic),
        "messages_per_party": [each.messages + each.offline_messages for each in traffic],
        "max_abs_error": float(np.max(np.abs(value - expected))),
    }


def _fm64(case: KernelCase) -> tuple[Row, float]:
    assert case.function is not None
    result = run_puma(case.function, case.arrays)
    expected = np.asarray(case.function(*case.arrays))
    return {
        "online_bytes": sum(result.bytes_sent_per_party),
        "offline_bytes": 0,
        "rounds": None,
        "messages_per_party": result.messages_per_party,
        "max_abs_error": float(np.max(np.abs(np.asarray(result.outputs, np.float64) - expected))),
    }, result.seconds


def kernel_table(rows: Sequence[Row]) -> Table:
    """One line a kernel and side; '-' where the function does not run, or rounds are not known."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("kernel", "side", "formats"):
        shown.add_column(title, no_wrap=True)
    for title in (
        "ns",
        "SPU / ours",
        "bits online",
        "offline",
        "SPU / ours",
        "rounds",
        "messages",
        "max error",
    ):
        shown.add_column(title, justify="right")
    for name in dict.fromkeys(row["kernel"] for row in rows):
        found = {row["config"]: row for row in rows if row["kernel"] == name}
        for side in (OURS, FM64, FM32):
            if side in found:
                row = found[side]
                shown.add_row(name, side, row["formats"], *_cells(row, found.get(FM64)))
            else:
                shown.add_row(name, side, *["-"] * 9)
    return shown


def _cells(row: Row, spu: Row | None) -> list[str]:
    faster = smaller = ""
    if spu is not None and row["config"] == OURS:
        faster, smaller = f"{spu['seconds'] / row['seconds']:.1f}", f"{_bits(spu) / _bits(row):.1f}"
    return [
        f"{row['ns_per_element']:,.0f}",
        faster,
        f"{row['online_bits_per_element']:,.0f}",
        f"{row['offline_bits_per_element']:,.0f}",
        smaller,
        "-" if row["rounds"] is None else str(row["rounds"]),
        f"{max(row['messages_per_party'])}",
        f"{row['max_abs_error']:.2g}",
    ]


def _bits(row: Row) -> float:
    return max(1e-9, row["online_bits_per_element"] + row["offline_bits_per_element"])
