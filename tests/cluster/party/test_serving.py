"""Tests turns, bounded memory, an orderly stop, metrics and health.

The parties are threads of this process.
"""

import http.client
import json
import socket
import threading
import time

import jax
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.cluster.party import session
from ditto_spu.cluster.party.handshakes import PLACES
from ditto_spu.cluster.party.metrics import Metrics, MetricsServer, metrics_address
from ditto_spu.cluster.party.peers import PeerWatch
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.cluster.party.request_queue import Turns
from ditto_spu.cluster.party.server import PartyServer
from ditto_spu.errors import ClusterError, PartyError
from tests.cluster.conftest import plan_checker

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def right(outputs, x=X):
    return outputs == pytest.approx(np.asarray(jax.nn.gelu(x)), abs=0.01)


def in_thread(action):
    """Start an action in a thread. Returns a function that waits for its result, or raises its error."""
    done: list = []

    def work():
        try:
            done.append((action(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()

    def result():
        thread.join(60)
        value, error = done[0]
        if error is not None:
            raise error
        return value

    return result


class Gate:
    """Stops every request at all parties until it is opened, and counts those that compute at party 0."""

    def __init__(self, monkeypatch) -> None:
        self.opened, self.most, self._now = threading.Event(), 0, 0
        execute = session.execute

        def held(plan, members, link, *rest):
            if link.rank == 0:
                self._now += 1
                self.most = max(self.most, self._now)
            self.opened.wait(30)
            try:
                return execute(plan, members, link, *rest)
            finally:
                self._now -= link.rank == 0

        monkeypatch.setattr(session, "execute", held)

    @property
    def now(self) -> int:
        return self._now


@pytest.mark.parametrize("running", [1, 2])
def test_so_many_requests_compute_at_a_time_as_configured(trial, monkeypatch, eventually, running):
    trial.file.write_text(trial.file.read_text() + f"\n[limits]\nrunning = {running}\n")
    trial.serve()
    gate = Gate(monkeypatch)
    with connect(trial.file, "alice") as a, connect(trial.file, "bob") as b, connect(trial.file, "bob") as c:
        waiting = [in_thread(lambda client=client: client.run(small, X)) for client in (a, b, c)]
        turns = trial.servers[0]._shared.turns
        eventually(lambda: gate.now == running and turns.queued == 3 - running)
        gate.opened.set()
        assert all(right(each().outputs) for each in waiting)
        assert gate.most == running
        eventually(lambda: (turns.queued, turns.running) == (0, 0))


def inputs(total=100, of_client=100):
    return Quota("bytes of inputs", "queued_mb", total, of_client)


def order_of_turns(clients):
    """Queue a request for each of the clients behind a running one. Returns the order of their turns."""
    turns, order, release, threads = Turns(1, 1, inputs()), [], threading.Event(), []

    def request(number, client):
        with turns.admitted(client, 30), turns.turn(client, 60, lambda: None):
            order.append(number)
            release.wait(60)

    for number, client in enumerate(clients):
        threads.append(threading.Thread(target=request, args=(number, client)))
        threads[-1].start()
        while turns.queued + turns.running <= number or turns._line.waiting < number:
            time.sleep(0.01)
    release.set()
    for each in threads:
        each.join()
    assert (turns.queued, turns.running, turns._inputs.used) == (0, 0, 0)
    return order


def test_clients_take_turns_and_each_is_served_in_its_order():
    assert order_of_turns("aaa") == [0, 1, 2]
    assert order_of_turns("aab") == [0, 2, 1]  # the one who asks for much waits


def test_one_client_does_not_compute_at_all_places():
    turns = Turns(2, 1, inputs())
    with turns.turn("a", 10, lambda: None):
        with pytest.raises(LinkError, match="its turn"), turns.turn("a", 0.1, lambda: None):
            pass
        with turns.turn("b", 10, lambda: None):
            assert turns.running == 2


def test_a_place_is_kept_for_each_client_that_has_none():
    sessions = Quota("sessions", "sessions", 4, 3, clients=3)
    sessions.take("a", 1)
    sessions.take("a", 1)
    with pytest.raises(ClusterError, match=r"'a' has 2 sessions, and the last 2 are kept for clients"):
        sessions.take("a", 1)
    sessions.take("b", 1)
    sessions.take("c", 1)
    sessions.give_back("a", 1)
    sessions.take("b", 1)


def test_turns_are_bounded():
    quota = inputs(total=100, of_client=60)
    turns = Turns(1, 1, quota)
    with turns.admitted("a", 30), turns.admitted("b", 50), turns.turn("a", 10, lambda: None):
        with pytest.raises(ClusterError, match="'a' has 30 bytes of inputs and wants 31 more"):
            quota.take("a", 31)
        with pytest.raises(ClusterError, match=r"all clients have 80 bytes.*exceed `queued_mb`"):
            quota.take("a", 30)
        with pytest.raises(ClusterError, match="more than the 60 that one client may have"):
            quota.take("c", 61)
        with pytest.raises(LinkError, match=r"waited 0.1 s for its turn"), turns.turn("b", 0.1, lambda: None):
            pass
        with pytest.raises(LinkError, match="gone"), turns.turn("b", 10, lambda: LinkError("gone")):
            pass
    assert (turns.queued, turns.running, quota.used) == (0, 0, 0)


def test_a_party_that_stops_lets_requests_end_and_refuses_new_ones(trial, monkeypatch, eventually):
    trial.serve()
    gate = Gate(monkeypatch)
    with connect(trial.file, "alice") as busy, connect(trial.file, "bob") as idle:
        gate.opened.set()
        assert right(idle.run(small, X).outputs)
        gate.opened.clear()
        running = in_thread(lambda: busy.run(small, X))
        eventually(lambda: gate.now == 1)
        stopped = in_thread(lambda: trial.servers[1].stop(30))
        eventually(lambda: trial.servers[1]._unready() is not None)
        with pytest.raises((ClusterError, PartyError), match="party 1 is stopping: try again later"):
            idle.run(small, X)
        gate.opened.set()
        assert right(running().outputs)
        stopped()
        with pytest.raises(PartyError, match=r"party 1 .*(stopping|cannot be reached|closed)"):
            busy.run(small, X)
    assert not trial.servers[1]._sessions


def test_requests_that_outlive_the_grace_are_ended(trial, monkeypatch, eventually):
    trial.serve()
    gate = Gate(monkeypatch)
    with connect(trial.file, "alice") as client:
        running = in_thread(lambda: client.run(small, X))
        eventually(lambda: gate.now == 1)
        stopped = in_thread(lambda: trial.servers[2].stop(0.2))
        time.sleep(0.5)
        gate.opened.set()
        with pytest.raises(PartyError, match="party 2"):
            running()
        stopped()


def ask(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def values(server) -> dict[str, float]:
    """Return the values of a party's metrics, by name and labels."""
    families = text_string_to_metric_families(ask(server, "/metrics")[1])
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_and_health(trial, eventually):
    cluster = load_cluster(trial.file)
    for rank in range(3):
        trial.servers.append(
            PartyServer(cluster, rank, ("127.0.0.1", 0) if rank == 0 else None, plan_checker())
        )
        trial.servers[-1].start()
    server = trial.servers[0]
    assert trial.servers[1].metrics_port is None
    assert ask(server, "/healthz/live") == (200, '{"live": true}\n')
    eventually(lambda: ask(server, "/healthz/ready")[0] == 200)
    assert ask(server, "/secrets")[0] == 404
    held = secure(lambda w, x: jax.nn.gelu(x @ w)).hold(w=np.eye(4, dtype=np.float32))
    with connect(trial.file, "alice") as client:
        for _ in range(3):
            result = client.run(held, X)
        material = client.precompute(held, X)
        with pytest.raises(ClusterError):
            client.run(held, X, weights="nothing")
        client.run(held, X, material=material)
        found = values(server)
        assert found["ditto_sessions"] == 1
    assert found["ditto_requests_total run"] == 4
    assert found["ditto_requests_total hold"] == 1
    assert found["ditto_requests_total ahead"] == 1
    assert found["ditto_failures_total refused"] == 1
    assert found["ditto_request_seconds_count run"] == 4
    assert found["ditto_bytes_sent_total"] == 4 * result.report.bytes_sent_per_party[0]
    assert found["ditto_held_bytes"] > 0
    assert found["ditto_queue_length"] == found["ditto_running"] == 0
    assert found["process_resident_memory_bytes"] > 1e6
    eventually(lambda: values(server)["ditto_sessions"] == 0)
    for _ in range(PLACES):
        server._handshakes.enter(socket.create_server(("127.0.0.1", 0)))
    assert "all places for handshakes" in json.loads(ask(server, "/healthz")[1])["reason"]
    server._stopping = True
    status, body = ask(server, "/healthz")
    assert (status, json.loads(body)["ready"]) == (503, False)
    assert "stopping" in json.loads(body)["reason"]


def test_a_party_is_not_ready_while_another_one_is_missing(eventually):
    answers = {1: None, 2: LinkError("it is frozen")}

    def ask_one(peer):
        if answers[peer] is not None:
            raise answers[peer]

    watch = PeerWatch(ask_one, (1, 2), every=0.01)
    assert watch.missing() == {}  # nobody has started it
    watch.start()
    try:
        eventually(lambda: watch.missing() == {2: "it is frozen"})
        answers[2] = None
        eventually(lambda: watch.missing() == {})
    finally:
        watch.close()


def test_addresses_of_metrics():
    assert metrics_address("9500") == ("127.0.0.1", 9500)
    assert metrics_address("0.0.0.0:9500") == ("0.0.0.0", 9500)
    assert metrics_address("[::1]:9500") == ("::1", 9500)
    for text in ("", "x", "host:", "1:70000"):
        with pytest.raises(ClusterError, match="PORT or HOST:PORT"):
            metrics_address(text)


def test_an_address_in_use_is_named(trial):
    trial.serve()
    host, port = load_cluster(trial.file).addresses[0]
    with pytest.raises(ClusterError, match=f"metrics cannot be shown at {host}:{port}"):
        MetricsServer((host, port), Metrics(), lambda: None)
