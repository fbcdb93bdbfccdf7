"""Tests a full disk.

Files are written for logs, for material of the simulation's offline phase, and for new clusters.
"""

import errno
import json
import os
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.cluster.commands import init
from ditto_spu.cluster.party.logs import JsonLines
from ditto_spu.errors import ConfigError, InputError
from ditto_spu.runtime import material

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


@secure
def small(x):
    """Compute one GeLU."""
    return jax.nn.gelu(x)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_lost_log_lines_are_counted(tmp_path, monkeypatch):
    import logging

    with open(tmp_path / "log", "wb") as file:
        logger = logging.Logger("test")
        logger.addHandler(JsonLines(file.fileno()))
        logger.info("one")
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            logger.info("two")
            logger.info("three")
        logger.info("four")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [each["event"] for each in lines] == ["one", "log lines lost", "four"]
    assert lines[1]["lines"] == 2


@pytest.mark.slow
def test_parties_serve_on_when_their_logs_are_full(trial):
    for rank in range(3):
        command = [sys.executable, "-m", "ditto_spu.cli", "party", "--rank", str(rank), "--grace", "1"]
        with open(trial.log(rank), "wb") as log:
            command += ["--cluster", str(trial.file)]
            trial.processes[rank] = subprocess.Popen(command, stderr=log)
        resource.prlimit(trial.processes[rank].pid, resource.RLIMIT_FSIZE, (400, 400))  # long before it logs
    for rank in range(3):
        trial.wait_for(rank, "listening")
    with connect(trial.file, "alice") as client:
        for _ in range(20):
            assert client.run(small, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)
    for rank in range(3):
        assert trial.log(rank).stat().st_size <= 400
        assert trial.processes[rank].poll() is None


def test_material_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(material.np, "savez", full)
    with pytest.raises(InputError, match=r"cannot be written to .*No space left on device.*nothing is kept"):
        small.precompute(X, folder=tmp_path / "material")
    assert not (tmp_path / "material").exists()


def test_material_that_cannot_be_marked_as_spent_is_not_used(tmp_path, monkeypatch):
    made = small.precompute(X, folder=tmp_path / "material")
    with monkeypatch.context() as patched:
        patched.setattr(material.os, "fsync", full)
        with pytest.raises(InputError, match=r"cannot be marked as spent .*No space left"):
            small.run(X, material=made)
    with pytest.raises(InputError, match="spent"):  # the marker may have been written
        small.run(X, material=made)


def test_a_cluster_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ConfigError, match=r"cannot be written to .*No space left"):
        init(tmp_path / "cluster", [], ["client"])
