"""Run one of the three processes of stock SPU. Arguments: FOLDER ADDRESS0 ADDRESS1 ADDRESS2 RANK."""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from pathlib import Path

from ditto_spu.compare.stock_spu import TIMEOUT, run_party
from ditto_spu.spu.party import connect
from ditto_spu.spu.profile import log_to
from ditto_spu.spu.values import Shared


def main(folder: Path, addresses: list[str], rank: int) -> None:
    """Read this party's program and inputs from the folder, run it, and write outputs and log there."""
    log_to(folder / f"spu{rank}.log")
    program, values = pickle.loads((folder / f"in{rank}").read_bytes())
    inputs = [Shared(*each) if isinstance(each, tuple) else each for each in values]
    link = connect(rank, addresses, timeout=TIMEOUT)
    party = run_party(link, program, inputs)
    outputs = [tuple(each) for each in party.outputs]
    (folder / f"out{rank}").write_bytes(pickle.dumps((outputs, party.seconds)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (folder / f"peak{rank}").write_text(json.dumps(peak))
    # No process leaves while another may still wait for a message.
    link.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:5], int(sys.argv[5]))
    # SPU's network library may crash while the interpreter shuts it down. All files are written by now.
    os._exit(0)
