"""Tests three hosts, as network namespaces with their own addresses, and a link that is cut during a run."""

import os
import re
import runpy
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.errors import PartyError

pytestmark = pytest.mark.slow
SUBNET = "10.213.77"
SWITCH, *HOSTS = (f"ditto{os.getpid()}{name}" for name in ("s", "0", "1", "2"))
LATE = 20.0  # seconds; the timeouts for messages and connections are 5 s each
X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
long, LONG = (runpy.run_path(str(Path(__file__).parent / "long.py"))[name] for name in ("long", "X"))


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def plug(name: str, host: str | None, address: str) -> None:
    """Connect the switch by a cable to eth0 of a host, or to this machine if `host` is None.

    `name` is the name of the cable's end at the switch, and `address` the IP address of the other end.
    """
    inner = "eth0" if host else f"d{os.getpid()}"
    where = ["netns", host] if host else ["netns", str(os.getpid())]
    ip("-n", SWITCH, "link", "add", name, "type", "veth", "peer", "name", inner, *where)
    ip("-n", SWITCH, "link", "set", name, "master", "switch", "up")
    on = ["-n", host] if host else []
    ip(*on, "address", "add", f"{address}/24", "dev", inner)
    ip(*on, "link", "set", inner, "up")


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    """Make three namespaces that reach each other and this one, and return their addresses."""
    if shutil.which("ip") is None:
        pytest.skip("needs the tool `ip` (package iproute2)")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    made: list[str] = []
    try:
        try:
            for name in (SWITCH, *HOSTS):
                ip("netns", "add", name)
                made.append(name)
                ip("-n", name, "link", "set", "lo", "up")
            ip("-n", SWITCH, "link", "add", "switch", "type", "bridge")
            ip("-n", SWITCH, "link", "set", "switch", "up")
            plug("client", None, f"{SUBNET}.1")
            for rank, host in enumerate(HOSTS):
                plug(f"party{rank}", host, f"{SUBNET}.{10 + rank}")
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield [f"{SUBNET}.{10 + rank}" for rank in range(3)]
    finally:
        for name in made:
            ip("netns", "delete", name)  # this also deletes its interfaces, and their other ends


@pytest.fixture
def trial(hosts, tmp_path, new_trial):
    made = new_trial(tmp_path / "cluster", tuple(f"{host}:9400" for host in hosts))
    made.before = {rank: ["ip", "netns", "exec", host] for rank, host in enumerate(HOSTS)}
    yield made
    made.stop()


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def works(client) -> None:
    assert client.run(small, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)


def reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def ended(trial, rank) -> list[str]:
    return [str(each["reason"]) for each in trial.events(rank) if each["event"] == "session over"]


def test_a_link_that_is_cut_during_a_run(trial, eventually):
    trial.start(0, 1, 2)
    with connect(trial.file, "alice") as client:
        works(client)
        before = sum(each["event"] == "computing" for each in trial.events(1))
        with ThreadPoolExecutor(1) as pool:
            request = pool.submit(client.run, long, LONG)
            trial.wait_for(1, "computing", before + 1)
            time.sleep(0.2)
            assert not request.done()
            ip("-n", HOSTS[1], "link", "set", "eth0", "down")
            started = time.monotonic()
            with pytest.raises(PartyError, match=r"party \d"):
                request.result()
            assert time.monotonic() - started < LATE
        for rank in range(3):  # party 1 too, because it hears from nobody
            trial.wait_for(rank, "session over")
            assert re.search("party|alice", ended(trial, rank)[-1])
        with pytest.raises(PartyError, match="party 1"):  # no one reaches party 1
            client.run(small, X)
        ip("-n", HOSTS[1], "link", "set", "eth0", "up")
        eventually(lambda: reachable(f"{SUBNET}.11", 9400))
        works(client)
