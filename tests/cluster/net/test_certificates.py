"""Tests certificates, the cluster file, and connections that verify both ends."""

import socket
import threading

import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu.api import secure
from ditto_spu.cluster.client.calls import call_of
from ditto_spu.cluster.client.client import ClusterClient
from ditto_spu.cluster.net.certificates import create_authority, days_left, fingerprint, write_identity
from ditto_spu.cluster.net.cluster_file import init_cluster, load_cluster
from ditto_spu.cluster.net.connect import accept, channel, check_pin, context, dial
from ditto_spu.cluster.party.server import PartyServer
from ditto_spu.errors import ConfigError, InputError
from ditto_spu.network.model import LAN, LOOPBACK, WAN
from tests.cluster.conftest import plan_checker


class Served:
    """Accepts one connection as party 0, and records the peer's name or the error."""

    def __init__(self, trial, monkeypatch=None) -> None:
        self.cluster = load_cluster(trial.file)
        self.error: Exception | None = None
        self.name = ""
        self._tls = context(self.cluster, "party0", server=True)
        self._listener = socket.create_server(self.cluster.addresses[0])
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        try:
            sock, self.name = accept(self.cluster, sock, self._tls)
            check_pin(self.cluster, self.name, sock)
            channel(self.cluster, sock, self.name).send("welcome", {})
        except LinkError as error:
            self.error = error
        finally:
            sock.close()

    def close(self) -> None:
        self._thread.join()
        self._listener.close()


def replace_identity(trial, name, certificate, key) -> None:
    (trial.folder / "keys" / f"{name}.key").unlink()
    write_identity(trial.folder / "keys", name, certificate, key)


def connection(trial, client="alice"):
    """Connect once. Returns the client's error, the party's error (each "" if none) and the client's name."""
    served = Served(trial)
    seen = ""
    try:
        made = dial(served.cluster, 0, context(served.cluster, client, server=False))
        made.receive(5.0)
        made.close()
    except LinkError as error:
        seen = str(error)
    served.close()
    return seen, str(served.error or ""), served.name


def test_both_ends_are_verified(trial):
    assert connection(trial) == ("", "", "alice")


@pytest.mark.parametrize(
    ("issue", "client", "server"),
    [
        (lambda trial: create_authority("other").issue("party0"), "unable to get local issuer", ""),
        (lambda trial: trial.authority.issue("party0", days=-1), "certificate has expired", ""),
        (lambda trial: trial.authority.issue("party1"), "Hostname mismatch", ""),
        (lambda trial: trial.authority.issue("party0"), "not the one in the cluster file", ""),
    ],
    ids=["authority", "expired", "name", "pin"],
)
def test_a_party_with_a_wrong_certificate_is_refused(trial, issue, client, server):
    replace_identity(trial, "party0", *issue(trial))
    assert client in connection(trial)[0]


@pytest.mark.parametrize(
    ("issue", "client", "server"),
    [
        (lambda trial: create_authority("other").issue("alice"), "unknown ca", "unable to get local issuer"),
        (lambda trial: trial.authority.issue("alice", days=-1), "expired", "certificate has expired"),
        (lambda trial: trial.authority.issue("mallory"), "closed", "no participant of this cluster"),
        (lambda trial: trial.authority.issue("bob"), "closed", "not the one in the cluster file"),
        (lambda trial: trial.authority.issue("party1"), "closed", "not the one in the cluster file"),
    ],
    ids=["authority", "expired", "unknown", "name", "party"],
)
def test_a_client_with_a_wrong_certificate_is_refused(trial, issue, client, server):
    replace_identity(trial, "alice", *issue(trial))
    seen, said, _ = connection(trial)
    assert client in seen or "connection lost" in seen  # the TLS alert may be lost with the connection
    assert server in said


def test_a_missing_key_is_named(trial):
    (trial.folder / "keys" / "alice.key").unlink()
    with pytest.raises(ConfigError, match=r"alice.key' is missing"):
        connection_of = load_cluster(trial.file)
        context(connection_of, "alice", server=False)


def test_keys_are_for_their_owner_alone(trial):
    for name in ("party0", "alice"):
        assert (trial.folder / "keys" / f"{name}.key").stat().st_mode & 0o077 == 0
    assert not list(trial.folder.rglob("authority.key"))


def test_a_folder_is_used_once(trial):
    with pytest.raises(InputError, match="holds a cluster already"):
        init_cluster(trial.folder, ("a:1", "b:1", "c:1"), ())


def test_fingerprints_of_both_encodings_agree():
    authority = create_authority("x")
    pem, _ = authority.issue("party0")
    import ssl

    assert fingerprint(pem) == fingerprint(ssl.PEM_cert_to_DER_cert(pem.decode()))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[[party]]", "[[partty]]", "there is no 'partty': did you mean 'party'"),
        ("message = 5", "mesage = 5", "there is no 'mesage': did you mean 'message'"),
        ("message = 5", "message = -5", "message is a positive number"),
        ("message = 5", 'message = "5"', "message is a positive number"),
        ('name = "bob"', 'name = "alice"', "two clients 'alice'"),
        ('name = "bob"', 'name = "party7"', "a client's name"),
        ('address = "127.0.0.1:', 'address = "127.0.0.1;', "host:port"),
        ('fingerprint = "', 'fingerprint = "x', "64 hexadecimal digits"),
        ('fingerprint = "', 'via = "nowhere"\nfingerprint = "', 'via = "host:port" is expected'),
        ("[timeouts]", "[timeouts", "is no TOML"),
    ],
    ids=range(10),
)
def test_mistakes_in_a_cluster_file_are_named(trial, old, new, reason):
    trial.file.write_text(trial.file.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=reason):
        load_cluster(trial.file)


def test_a_participant_may_reach_a_party_elsewhere_than_where_it_listens(trial):
    plain = load_cluster(trial.file)
    text = trial.file.read_text().replace("[[party]]", '[[party]]\nvia = "gate:7000"', 1)
    trial.file.write_text(text)
    through = load_cluster(trial.file)
    assert through.reach(0) == ("gate", 7000)
    assert through.reach(1) == through.addresses[1]
    assert through.addresses == plain.addresses
    assert through.hash() == plain.hash()  # `via` is no part of what all must agree on


def test_three_parties_are_needed(trial):
    trial.file.write_text("party = []")
    with pytest.raises(ConfigError, match="three"):
        load_cluster(trial.file)


def test_a_cluster_file_names_the_network_between_its_parties(trial):
    plain, text = load_cluster(trial.file), trial.file.read_text()
    assert plain.network == LOOPBACK
    trial.file.write_text(f'network = "wan"\n{text}')
    cluster = load_cluster(trial.file)
    assert cluster.network == WAN and cluster.hash() != plain.hash()
    maximum, rows = secure(lambda x: x.max(-1), config="ditto"), np.ones((64, 96), np.float32)
    client = ClusterClient(cluster, cluster.clients[0])
    call = call_of(maximum, (rows,), {}, client._network)
    assert call.lowered.network == WAN and call.lowered.plan != maximum.call(rows).lowered.plan
    own = call_of(maximum.with_network("lan"), (rows,), {}, client._network)
    assert own.lowered.network == LAN
    trial.file.write_text(f'network = "wann"\n{text}')
    with pytest.raises(ConfigError, match="did you mean 'wan'"):
        load_cluster(trial.file)


def test_the_hash_covers_what_all_must_agree_on(trial):
    before = load_cluster(trial.file).hash()
    trial.file.write_text(trial.file.read_text().replace("message = 5", "message = 6"))
    assert load_cluster(trial.file).hash() != before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(trial, mode):
    key = trial.folder / "keys" / "party0.key"
    key.chmod(mode)
    with pytest.raises(ConfigError, match=r"can be read by others than its owner: chmod 600"):
        context(load_cluster(trial.file), "party0", server=True)
    key.chmod(0o400)
    assert context(load_cluster(trial.file), "party0", server=True) is not None


def test_a_party_warns_of_the_end_of_its_certificate_and_is_not_ready_after_it(trial, caplog):
    assert 364 < days_left((trial.folder / "keys" / "party1.crt").read_bytes()) < 365
    for days, warned, reason in (
        (365, False, None),
        (29, True, None),
        (-1, True, "its certificate has expired"),
    ):
        caplog.clear()
        replace_identity(trial, "party0", *trial.authority.issue("party0", days))
        server = PartyServer(load_cluster(trial.file), 0, checker=plan_checker())
        server.start()
        try:
            assert any(record.getMessage() == "certificate ends" for record in caplog.records) == warned
            assert server._unready() == reason
        finally:
            server.stop(0)


def test_a_party_may_listen_elsewhere_than_at_its_address(trial):
    plain, text = load_cluster(trial.file), trial.file.read_text()
    port = plain.addresses[0][1]
    listen = f'[[party]]\nlisten = "0.0.0.0:{port}"'
    trial.file.write_text(text.replace("[[party]]", listen, 1))
    elsewhere = load_cluster(trial.file)
    assert (elsewhere.listens(0), elsewhere.listens(1)) == (("0.0.0.0", port), plain.addresses[1])
    assert (elsewhere.addresses, elsewhere.hash()) == (plain.addresses, plain.hash())
    server = PartyServer(elsewhere, 0, checker=plan_checker())
    server.start()
    try:
        made = dial(plain, 0, context(plain, "alice", server=False))
        made.close()
    finally:
        server.stop(0)


def test_addresses_of_version_6_have_brackets(trial):
    text = trial.file.read_text()
    cluster = load_cluster(trial.file)
    host, port = cluster.addresses[0]
    trial.file.write_text(text.replace(f"{host}:{port}", f"::1:{port}"))
    with pytest.raises(ConfigError, match=r"an IPv6 address has brackets"):
        load_cluster(trial.file)
    trial.file.write_text(text.replace(f"{host}:{port}", f"[::1]:{port}"))
    cluster = load_cluster(trial.file)
    assert cluster.addresses[0] == ("::1", port)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this host has no IPv6")
    server = PartyServer(cluster, 0, checker=plan_checker())
    server.start()
    try:
        dial(cluster, 0, context(cluster, "alice", server=False)).close()
    finally:
        server.stop(0)
