"""Run steps of SPU at one of three processes. Arguments: FOLDER ADDRESS0 ADDRESS1 ADDRESS2 RANK TIMES.

Each process has a log of its own, so that its bytes and messages are told from those of the others.
"""

import json
import os
import pickle
import sys
import time
from pathlib import Path

from ditto_spu.spu.party import connect
from ditto_spu.spu.profile import log_to, read_costs
from ditto_spu.spu.steps import SpuSteps


def main(folder: Path, addresses: list[str], rank: int, times: int) -> None:
    """Read programs and this party's inputs from the folder, run them, and write what each run sent."""
    log_to(folder / f"spu{rank}.log")
    programs, calls = pickle.loads((folder / f"calls{rank}").read_bytes())
    steps = SpuSteps(connect(rank, addresses, timeout=120), programs, profile=True)
    for _ in range(times):
        for call in calls:
            steps.run_step(*call)
    sent: list[list[int]] = []
    for each in read_costs(folder / f"spu{rank}.log", parties=1):
        if each.name.startswith("step"):  # A conversion after a step counts as part of it.
            sent.append([0, 0])
        sent[-1] = [sent[-1][0] + each.bytes_sent[0], sent[-1][1] + each.messages[0]]
    (folder / f"sent{rank}").write_text(json.dumps(sent))
    while not all((folder / f"sent{each}").exists() for each in range(3)):
        time.sleep(0.05)  # No process leaves while another may still wait for a message.


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6]))
    # SPU's network library may crash while the interpreter shuts it down. All files are written by now.
    os._exit(0)
