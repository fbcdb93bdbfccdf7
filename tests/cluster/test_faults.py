"""Tests faults of three party processes: clear errors in time, and the next request works."""

import re
import runpy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.cluster.net.certificates import create_authority, write_identity
from ditto_spu.errors import PartyError

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
LATE = 60.0  # seconds: some times the timeouts for messages and connections, 5 s each, for a busy machine


# This file is also a program, which a test kills.
SCRIPT = Path(__file__).parent / "long.py"
long, LONG = (runpy.run_path(str(SCRIPT))[name] for name in ("long", "X"))


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def works(client) -> None:
    assert client.run(small, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)


def fails(client, function, x, reason) -> None:
    started = time.monotonic()
    with pytest.raises(PartyError, match=reason):
        client.run(function, x)
    assert time.monotonic() - started < LATE


def ended(trial, rank) -> str:
    """Return why the last session of a party ended, or "" if none did."""
    reasons = [str(each["reason"]) for each in trial.events(rank) if each["event"] == "session over"]
    return reasons[-1] if reasons else ""


def during(trial, client, rank, number):
    """Send a signal to a party while it computes, and return the request's error."""
    before = sum(each["event"] == "computing" for each in trial.events(rank))
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(client.run, long, LONG)
        trial.wait_for(rank, "computing", before + 1)
        time.sleep(0.2)
        assert not request.done()
        trial.signal(rank, number)
        started = time.monotonic()
        with pytest.raises(PartyError) as failure:
            request.result()
        assert time.monotonic() - started < LATE
    return str(failure.value)


@pytest.mark.slow
def test_parties_that_are_killed_frozen_and_restarted(trial, eventually):
    with connect(trial.file, "alice") as client:
        trial.start(0, 1)
        fails(client, small, X, r"party 2 at 127.0.0.1:\d+ cannot be reached .*is it running")
        for rank in (0, 1):  # the parties log their own attempts, which end with the timeout
            attempts = [each["attempt"] for each in trial.events(rank) if each["event"] == "unreachable"]
            assert attempts == list(range(1, len(attempts) + 1))
            assert 2 <= len(attempts) < 20
        trial.start(2)
        works(client)

        assert "party" in during(trial, client, 1, signal.SIGKILL)
        for rank in (0, 2):
            # The client closes all connections when one party fails, perhaps before the party's link fails.
            eventually(lambda rank=rank: re.search("party 1|alice closed", ended(trial, rank)))
        trial.start(1)
        works(client)

        # Party 0 may wait for party 1, which waits for party 2. Both find that party 2 does not answer.
        assert re.search("party 2 (does not answer|took nothing)", during(trial, client, 2, signal.SIGSTOP))
        trial.signal(2, signal.SIGCONT)
        works(client)

        trial.signal(0, signal.SIGKILL)  # between requests; the client notices it and tries again
        trial.start(0)
        works(client)

        trial.signal(1, signal.SIGSTOP)  # before a request
        fails(
            client, small, X, "party 1 .*does not answer|party 1 has not connected"
        )  # whoever reports first
        trial.signal(1, signal.SIGCONT)
        works(client)


@pytest.mark.slow
def test_a_client_that_is_killed_in_mid_run(trial):
    trial.start(0, 1, 2)
    bob = subprocess.Popen([sys.executable, str(SCRIPT), str(trial.file)])
    try:
        trial.wait_for(0, "computing")
        time.sleep(0.2)
    finally:
        bob.kill()
        bob.wait()
    for rank in range(3):
        trial.wait_for(rank, "session over")
        assert not any(each["event"] == "request" for each in trial.events(rank))
    with connect(trial.file, "alice") as client:
        works(client)


@pytest.mark.slow
def test_a_party_that_is_asked_to_stop_ends_its_requests_first(trial):
    trial.start(0, 1, 2, grace=600)  # no request outlives it, also on a busy machine
    with connect(trial.file, "alice") as client, ThreadPoolExecutor(1) as pool:
        works(client)
        request = pool.submit(client.run, long, LONG)
        trial.wait_for(1, "computing", 2)
        trial.signal(1, signal.SIGTERM)
        trial.wait_for(1, "stopping")
        with connect(trial.file, "bob") as other:
            fails(other, small, X, "party 1 is stopping: try again later|party 1 .* cannot be reached")
        assert np.abs(request.result().outputs).max() < 0.1
        assert trial.processes[1].wait(LATE) == 0
    for rank in (0, 2):
        trial.signal(rank, signal.SIGTERM)
        assert trial.processes[rank].wait(LATE) == 0


def test_wrong_identities_do_not_disturb_the_others(parties):
    keys = parties.folder / "keys"
    kept = [(keys / name).read_bytes() for name in ("bob.crt", "bob.key")]
    wrong = {
        "unknown ca|closed|connection lost": create_authority("other").issue("bob"),
        "expired|closed|connection lost": parties.authority.issue("bob", days=-1),
        "not the one in the cluster file|closed": parties.authority.issue("bob"),
        "no participant|closed": parties.authority.issue("mallory"),
    }
    try:
        with connect(parties.file, "alice") as alice:
            for reason, identity in wrong.items():
                (keys / "bob.key").unlink()
                write_identity(keys, "bob", *identity)
                with connect(parties.file, "bob") as bob:
                    fails(bob, small, X, reason)
                works(alice)
    finally:
        for name, content in zip(("bob.crt", "bob.key"), kept, strict=True):
            (keys / name).write_bytes(content)
    with connect(parties.file, "bob") as bob:
        works(bob)


def test_an_error_names_the_session_as_the_logs_do(trial, caplog):
    trial.serve()
    caplog.set_level("INFO", "ditto_spu.cluster")
    with connect(trial.file, "alice") as client:
        client.run(small, X)
        client._moved, session = True, client._parties.session
        trial.servers[1]._sessions[session].close()
        with pytest.raises(PartyError, match=f"session {session}"):
            client._session(lambda: client._run([small.call(X)], None, None))
    over = [each.facts["session"] for each in caplog.records if each.getMessage() == "session over"]
    assert session in over
