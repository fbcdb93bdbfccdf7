"""Tests SPU steps between real parties: their processes, tunnels, and a process that dies."""

import os
import signal
import stat
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.cluster.net.spu_tunnel import Tunnels
from ditto_spu.cluster.party import spu_process
from ditto_spu.errors import PartyError, UnsupportedOpError
from tests.on_spu import paired

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)[:, ::-1].copy()


@secure
def mixed(x):
    """Compute GeLU by our kernel, then products on SPU."""
    return paired(jax.nn.gelu(x) * 2.0)


expected = np.asarray(paired(jax.nn.gelu(X) * 2.0))


def test_spu_steps_run_and_their_bytes_are_counted(parties, eventually, monkeypatch):
    folders = []
    monkeypatch.setattr(spu_process, "Tunnels", lambda *a: folders.append(a[1]) or Tunnels(*a))
    with connect(parties.file, "alice") as client:
        for _ in range(2):
            result = client.run(mixed, X)
            assert result.outputs == pytest.approx(expected, abs=0.01)
        assert [stat.filemode(each.stat().st_mode) for each in folders] == ["drwx------"] * 3
        assert not any(listening(pid) for pid in children())
        assert all(stat.S_ISSOCK(file.stat().st_mode) for each in folders for file in each.iterdir())
        (row,) = [each for each in result.report.rows if each.kind == "spu"]
        assert row.source == "measured"
        assert sum(row.online_bytes) > 1500, row.online_bytes  # SPU draws which party sends how much
    eventually(lambda: not any(server._sessions for server in parties.servers))
    assert not children()
    assert not any(each.exists() for each in folders)


@pytest.mark.slow
def test_spu_steps_with_masked_shares_in_batches_and_refused(parties):
    with connect(parties.file, "alice") as client:
        masked = secure(mixed._fn, masked=True)
        assert client.run(masked, X).outputs == pytest.approx(expected, abs=0.01)
        done = client.run_many(mixed, [(X,), (-X,)])
        assert done.outputs[0] == pytest.approx(expected, abs=0.01)
        with pytest.raises(UnsupportedOpError, match="complex numbers and tuples cannot be shared"):
            client.run(secure(lambda x: jnp.fft.fft(x.astype(jnp.complex64)).real), X)
        assert client.run(masked, X).outputs == pytest.approx(expected, abs=0.01)


def listening(pid: int) -> set[str]:
    """Return the sockets at which a process listens for TCP connections."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    files = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"} & set(files)


def children() -> list[int]:
    """Return the ids of the SPU processes that this process has started and that still run."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                with open(f"/proc/{entry}/cmdline") as file:
                    name = file.read()
            except OSError:
                continue
            if parent == os.getpid() and "spu_child" in name:
                found.append(int(entry))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "SPU of party . was killed by SIGKILL|party"), (signal.SIGSTOP, "SPU|party")],
    ids=["killed", "frozen"],
)
def test_a_process_of_spu_that_dies_or_freezes_ends_the_session_alone(parties, eventually, number, reason):
    with connect(parties.file, "alice") as client:
        assert client.run(mixed, X).outputs == pytest.approx(expected, abs=0.01)
        pid = children()[0]
        os.kill(pid, number)
        started = time.monotonic()
        with pytest.raises(PartyError, match=reason) as failure:
            client.run(mixed, X)
        print(failure.value)
        assert time.monotonic() - started < 20
        eventually(lambda: not children())
        assert client.run(mixed, X).outputs == pytest.approx(expected, abs=0.01)
    eventually(lambda: not any(server._sessions for server in parties.servers))
    eventually(lambda: not any("_pump" in thread.name for thread in threading.enumerate()))
