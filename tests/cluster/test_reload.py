"""Tests that a running party takes other clients and certificates without losing weights."""

import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.cluster.net.certificates import fingerprint, write_identity
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.errors import ConfigError, PartyError

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 8).reshape(4, 2).astype(np.float32)
layer = secure(lambda w, x: jax.nn.gelu(x @ w))
SHAPE = jax.ShapeDtypeStruct(W.shape, W.dtype)


def right(outputs):
    return outputs == pytest.approx(np.asarray(jax.nn.gelu(X @ W)), abs=0.01)


def add_client(trial, name):
    certificate, key = trial.authority.issue(name)
    write_identity(trial.folder / "keys", name, certificate, key)
    entry = f'\n[[client]]\nname = "{name}"\nfingerprint = "{fingerprint(certificate)}"\n'
    trial.file.write_text(trial.file.read_text() + entry)


def renew(trial, name):
    """Give a participant another certificate, and put it into the cluster file."""
    before = fingerprint((trial.folder / "keys" / f"{name}.crt").read_bytes())
    certificate, key = trial.authority.issue(name)
    (trial.folder / "keys" / f"{name}.key").unlink()
    write_identity(trial.folder / "keys", name, certificate, key)
    trial.file.write_text(trial.file.read_text().replace(before, fingerprint(certificate)))


def test_clients_and_certificates_change_and_weights_stay(trial):
    trial.serve()
    with connect(trial.file, "alice") as alice:
        alice.upload(layer.hold(w=W), x=X, name="model", users=["bob"])
        add_client(trial, "carol")
        for name in ("party1", "bob"):
            renew(trial, name)
        with connect(trial.file, "carol") as carol, pytest.raises(PartyError):
            carol.run(layer, W, X)
        for server in trial.servers:
            server.reload(load_cluster(trial.file))
        assert right(alice.run(layer.hold(w=SHAPE), X, weights="model").outputs)  # her session goes on
    with connect(trial.file, "carol") as carol, connect(trial.file, "bob") as bob:
        assert right(carol.run(layer, W, X).outputs)
        assert right(bob.run(layer.hold(w=SHAPE), X, weights="alice/model").outputs)


def test_a_running_party_takes_nothing_else(trial):
    trial.serve()
    text = trial.file.read_text()
    for change in (text + "\n[limits]\nsessions = 3\n", "tls = false\n" + text):
        trial.file.write_text(change)
        with pytest.raises(ConfigError, match="clients and certificates alone"):
            trial.servers[0].reload(load_cluster(trial.file))
    trial.file.write_text(text)
    (trial.folder / "keys" / "party0.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        trial.servers[0].reload(load_cluster(trial.file))
    with connect(trial.file, "alice") as alice:
        assert right(alice.run(layer, W, X).outputs)


@pytest.mark.slow
def test_a_signal_makes_a_party_read_its_file_again(trial):
    trial.start(0, 1, 2)
    text = trial.file.read_text()
    trial.file.write_text("nonsense")
    trial.signal(0, signal.SIGHUP)
    trial.wait_for(0, "not reloaded")
    trial.file.write_text(text)
    add_client(trial, "carol")
    for rank in range(3):
        trial.signal(rank, signal.SIGHUP)
        trial.wait_for(rank, "reloaded")
    with connect(trial.file, "carol") as carol:
        assert right(carol.run(layer, W, X).outputs)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_fingerprints_are_read_as_openssl_prints_them(trial):
    shown = subprocess.run(
        [
            "openssl",
            "x509",
            "-in",
            str(trial.folder / "keys" / "bob.crt"),
            "-noout",
            "-fingerprint",
            "-sha256",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, text = load_cluster(trial.file), trial.file.read_text()
    trial.file.write_text(text.replace(before.fingerprints["bob"], shown.strip().partition("=")[2]))
    assert ":" in trial.file.read_text().partition("[[client]]")[2]
    assert load_cluster(trial.file).hash() == before.hash()
