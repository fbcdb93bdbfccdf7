"""Run one of three processes on CrypTen: `bench.mpcformer.party FOLDER RANK THREADS`.

Rank 2 is the dealer. FOLDER holds weights.npz and hidden.npy. A party answers each line of standard input
with one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.distributed

from bench.mpcformer import ANSWER
from bench.mpcformer.encoder import EPSILON, SHIFT, encode

PARTIES, DEALER = 2, 2
OWNER, CLIENT = 0, 1  # ranks of the parties that own the weights and the input
# CrypTen calls these transfers while it evaluates. Between two parties, an all_reduce sends each share once.
# All others are between party 0, which asks, and the dealer.
COUNTED = {"all_reduce": "opened", "isend": "asked", "irecv": "dealt", "broadcast": "dealt"}


class Traffic:
    """Count the payload that a party opens, asks with, and gets from the dealer, in bytes and messages."""

    def __init__(self) -> None:
        self.reset()
        for name, kind in COUNTED.items():
            setattr(torch.distributed, name, self._counting(getattr(torch.distributed, name), kind))

    def reset(self) -> None:
        self.bytes = dict.fromkeys(COUNTED.values(), 0)
        self.messages = dict.fromkeys(COUNTED.values(), 0)

    def _counting(self, transfer: Any, kind: str) -> Any:
        def counted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            self.bytes[kind] += tensor.nbytes
            self.messages[kind] += 1
            return transfer(tensor, *args, **kwargs)

        return counted


class Secret:
    """Quad, 2Quad and LayerNorm on CrypTen's shares, with CrypTen's own reciprocal and inverse root."""

    def permute(self, x: Any, *axes: int) -> Any:
        return x.permute(*axes)

    def gelu(self, x: Any) -> Any:
        return x.square().div(8) + x.div(4) + 0.5

    def softmax(self, x: Any) -> Any:
        quad = (x + SHIFT).square()
        # This is the reciprocal of the mean, not of the sum. CrypTen's reciprocal diverges above about 600,
        # and the sum of 128 terms is 3200.
        return quad * quad.mean(-1, keepdim=True).reciprocal() / x.shape[-1]

    def normalise(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + EPSILON).inv_sqrt()


class Party:
    """A party that holds shares of the weights, made once, and evaluates on shares of the input."""

    def __init__(self, crypten: Any, folder: Path, rank: int) -> None:
        self._crypten, self._folder, self._rank = crypten, folder, rank
        with np.load(folder / "weights.npz") as weights:
            self._weights = {name: self._share(weights[name], OWNER) for name in weights.files}
        self._hidden = self._share(np.load(folder / "hidden.npy"), CLIENT)
        self._output: Any = None
        self._traffic = Traffic()

    def _share(self, array: Any, owner: int) -> Any:
        mine = array if self._rank == owner else np.zeros_like(array)  # CrypTen needs the shape alone
        return self._crypten.cryptensor(torch.from_numpy(mine), src=owner)

    def run(self) -> dict[str, Any]:
        """Evaluate once and return the seconds and the traffic.

        Time runs from when both parties are ready until this one holds its share of the output.
        """
        self._crypten.communicator.get().barrier()
        self._traffic.reset()
        started = time.perf_counter()
        self._output = encode(self._weights, self._hidden, Secret())
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "bytes": self._traffic.bytes, "messages": self._traffic.messages}

    def report(self) -> dict[str, Any]:
        output = self._output.get_plain_text()
        if self._rank == CLIENT:
            np.save(self._folder / "output.npy", output.numpy())
        return {"versions": {name: version(name) for name in ("torch", "crypten", "numpy")}}


def _crypten(folder: Path, rank: int) -> Any:
    # CrypTen 0.4.1 imports this module for its ONNX converter, but newer versions of torch do not have it.
    gone = ModuleType("torch.onnx._internal.registration")
    gone.registry = None
    sys.modules[gone.__name__] = gone
    import crypten
    import crypten.mpc.provider.ttp_provider

    os.environ |= {
        "DISTRIBUTED_BACKEND": "gloo",
        "GLOO_SOCKET_IFNAME": "lo",
        "RENDEZVOUS": f"file://{folder}/rendezvous",
        "WORLD_SIZE": str(PARTIES),
        "RANK": str(rank),
    }
    crypten.cfg.mpc.provider = "TTP"
    crypten.cfg.functions.reciprocal_all_pos = True  # a sum of squares is positive, which saves a comparison
    return crypten


def main(folder: Path, rank: int, threads: int) -> None:
    """Answer commands until standard input ends."""
    torch.set_num_threads(threads)
    crypten = _crypten(folder, rank)
    if rank == DEALER:
        crypten.mpc.provider.ttp_provider.TTPServer()  # returns when party 0 has ended
        return
    crypten.init()
    with crypten.no_grad():
        party = Party(crypten, folder, rank)
        for line in sys.stdin:
            answer = {"run": party.run, "report": party.report}[line.strip()]()
            print(ANSWER + json.dumps(answer), flush=True)
    crypten.uninit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
