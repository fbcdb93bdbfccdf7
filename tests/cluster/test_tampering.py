"""Tests faults during a run: everybody gets a clear error, everything is freed, the next request works.

The parties are threads of this process, over TLS.
"""

import logging
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import pack
from ditto_spu.cluster.party import requests, session
from ditto_spu.errors import PartyError
from tests.cluster.conftest import Trial

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
TIMEOUTS = "\n[timeouts]\nconnect = 5\nmessage = 2\nrequest = 60\nidle = 60\n"
LATE = 10.0


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def works(client) -> None:
    assert client.run(small, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)


@pytest.fixture(scope="module")
def parties(tmp_path_factory):
    made = Trial(tmp_path_factory.mktemp("parties") / "cluster", TIMEOUTS)
    made.serve()
    yield made
    made.stop()


@pytest.fixture
def free(parties, eventually):
    """Check that no session, thread or file descriptor is left after the test that was not there before."""
    eventually(lambda: not any(server._sessions for server in parties.servers))
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    eventually(lambda: not any(server._sessions for server in parties.servers))
    assert not any(server._meetings.waiting for server in parties.servers)
    eventually(lambda: threading.active_count() <= threads and len(os.listdir("/proc/self/fd")) <= files)


def ended(caplog) -> list[str]:
    return [each.facts["reason"] for each in caplog.records if each.getMessage() == "session over"]


def raw(link, peer, tensors, number=None):
    """Return a message's bytes as the channel would send them, with another sequence number if given."""
    channel = link._channels[peer]
    facts = {"session": link._session, "request": link._request, "clock": 1}
    head = pack("tensors", channel._sent if number is None else number, facts, tensors)
    return head + b"".join(np.ascontiguousarray(array).tobytes() for _, array in tensors)


def truncated(link, peer, tensors):
    link._channels[peer]._write(memoryview(raw(link, peer, tensors)[:-3]))
    link._channels[peer].finish()


def silent(link, peer, tensors):
    """Send a truncated message and leave the connection open."""
    link._channels[peer]._write(memoryview(raw(link, peer, tensors)[:-3]))


def duplicated(link, peer, tensors):
    link._channels[peer]._write(memoryview(raw(link, peer, tensors) * 2))


def reordered(link, peer, tensors):
    number = link._channels[peer]._sent
    link._channels[peer]._write(memoryview(raw(link, peer, tensors, number + 1)))
    link._channels[peer]._write(memoryview(raw(link, peer, tensors, number)))


def flipped(link, peer, tensors):
    data = bytearray(raw(link, peer, tensors))
    data[60] ^= 4
    link._channels[peer]._write(memoryview(data))


def other_shape(link, peer, tensors):
    link._channels[peer]._write(memoryview(raw(link, peer, [(tag, array[:1]) for tag, array in tensors])))


def dropped(link, peer, tensors):
    """Send nothing, like a party that hangs but still answers pings."""


FAULTS = {
    truncated: "closed the connection",
    silent: "no message of this protocol|party 1 sent nothing for 2 s",  # later bytes may complete it
    duplicated: "lost, repeated or reordered",
    reordered: "lost, repeated or reordered",
    flipped: "changed on the way",
    other_shape: r"sent '.*' as \w+\[1",
    dropped: "party 1; party 1 answers, and may be slow|waited 2 s",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_message_between_parties(parties, monkeypatch, caplog, free, fault):
    post, armed = PeerLink.post, [True]

    def spoilt(link, peer, clock, tensors):
        if armed and link.rank == 1 and not tensors[0][0].startswith("control:"):
            armed.clear()
            fault(link, peer, tensors)
        else:
            post(link, peer, clock, tensors)

    with connect(parties.file, "alice") as client:
        works(client)
        caplog.set_level(logging.INFO, "ditto_spu.cluster")
        monkeypatch.setattr(PeerLink, "post", spoilt)
        started = time.monotonic()
        with pytest.raises(PartyError, match=FAULTS[fault]):
            client.run(small, X)
        assert time.monotonic() - started < LATE
        assert not armed
        works(client)
    assert len(ended(caplog)) >= 3  # all three parties give the reason
    assert any(re.search(FAULTS[fault], each) for each in ended(caplog))


@pytest.mark.parametrize("rank", range(3))
def test_a_slow_party_is_named(parties, monkeypatch, free, rank):
    execute = session.execute
    armed = [True]

    def slow(plan, members, link, *rest):
        if link.rank == rank and armed:
            armed.clear()
            time.sleep(4)
        return execute(plan, members, link, *rest)

    with connect(parties.file, "alice") as client:
        works(client)
        monkeypatch.setattr(session, "execute", slow)
        with pytest.raises(
            PartyError, match=rf"party {rank}; party {rank} answers, and may be slow|waited 2 s"
        ):
            client.run(small, X)
        works(client)


def test_the_reason_reaches_a_client_that_is_still_uploading(parties, monkeypatch, free):
    receive, armed = requests.receive_inputs, [True]

    def failing(call, rank, port, timeout):
        if rank == 1 and armed:
            armed.clear()
            time.sleep(0.5)  # wait until the client uploads; before that it would only open another session
            raise LinkError("no room for this input")
        return receive(call, rank, port, timeout)

    add = secure(lambda *xs: sum(xs))
    xs = [np.zeros((512, 1024), np.float32)] * 8  # more bytes than the sockets' buffers hold
    with connect(parties.file, "alice") as client:
        works(client)
        monkeypatch.setattr(session, "receive_inputs", failing)
        with pytest.raises(PartyError, match=r"party 1(:| stopped:) no room for this input"):
            client.run(add, *xs)
        assert client.run(add, *xs).outputs.shape == (512, 1024)


@pytest.mark.parametrize("rank", range(3))
def test_a_client_that_goes_away_while_uploading_or_computing(parties, monkeypatch, eventually, free, rank):
    execute, computing = session.execute, threading.Event()

    def waiting(plan, members, link, *rest):
        computing.set()
        time.sleep(0.5)
        return execute(plan, members, link, *rest)

    client = connect(parties.file, "alice")
    works(client)
    monkeypatch.setattr(session, "execute", waiting)
    failure: list[BaseException] = []

    def run():
        try:
            client._parties.session and client._run([small.call(X)], None, None)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert computing.wait(LATE)
    Channel.close(
        client._parties._channels[rank]
    )  # only one connection; the other parties hear of it from this one
    thread.join(LATE)
    assert failure
    monkeypatch.undo()
    client.close()
    with connect(parties.file, "alice") as again:
        works(again)


@pytest.mark.parametrize("sent", [0, 60])
def test_a_client_that_freezes_while_uploading_keeps_nobody_waiting(parties, free, sent):
    plan = small.lower(X).plan
    with connect(parties.file, "alice") as frozen, connect(parties.file, "bob") as other:
        frozen._parties.open()
        frozen._register(plan)
        asked = {"plan": plan.hash(), "weights": None, "places": [0], "dealer": None, "count": 1}
        frozen._parties.ask("run", asked, (), "ready")
        share = np.zeros(X.shape, plan.vars[plan.inputs[0].var].fxp.dtype)
        for rank, channel in enumerate(frozen._parties._channels):
            if rank == 1:  # send nothing, or a part of a message
                channel._write(
                    memoryview(pack("shares", channel._sent, {"member": 0, "place": 0}, [("mine", share)]))[
                        :sent
                    ]
                )
            else:
                channel.send("shares", {"member": 0, "place": 0}, [("mine", share), ("next", share)])
        works(other)
        reasons = [channel.receive(LATE).facts["reason"] for channel in frozen._parties._channels]
        assert all("alice sent nothing for 2 s" in each for each in reasons), reasons
        works(other)


def test_an_error_inside_a_party_is_told_and_frees_all(parties, monkeypatch, free):
    execute, armed = session.execute, [True]

    def broken(plan, members, link, *rest):
        if link.rank == 2 and armed:
            armed.clear()
            raise MemoryError("out of memory")
        return execute(plan, members, link, *rest)

    with connect(parties.file, "alice") as client:
        works(client)
        monkeypatch.setattr(session, "execute", broken)
        with pytest.raises(PartyError, match="MemoryError: out of memory"):
            client.run(small, X)
        works(client)


def test_a_slow_upload_is_no_silence(trial, monkeypatch):
    """A large tensor may take longer than `message`, as long as its bytes go on arriving."""
    trial.file.write_text(trial.file.read_text().replace("message = 5", "message = 1"))
    trial.serve()
    write, x = Channel._write, np.linspace(-1, 1, 4096).astype(np.float32)

    def slowly(self, view):
        if len(view) > 10_000 and threading.current_thread().name.startswith("upload"):
            for start in range(0, len(view), len(view) // 8 + 1):
                time.sleep(0.25)
                write(self, view[start : start + len(view) // 8 + 1])
        else:
            write(self, view)

    with connect(trial.file, "alice") as client:
        function = secure(lambda x: x * x)
        client.run(function, x)
        client._parties._pool = ThreadPoolExecutor(3, "upload")
        monkeypatch.setattr(Channel, "_write", slowly)
        assert client.run(function, x).outputs == pytest.approx(x * x, abs=0.01)
