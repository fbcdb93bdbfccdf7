"""Tests that material serves one request, whatever is called in whatever order, and wherever it is copied."""

import copy
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError
from ditto_spu.runtime.single_use import SingleUse, ledger

X = np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32)
MASK = np.float32([1, 0, 1])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "masked"])
def function(request):
    """Compute a product with a public argument and a function of it."""
    return ditto.secure(lambda x, mask: jnp.tanh(x) * mask + mask, public=("mask",), masked=request.param)


def run(function, material, x=X, mask=MASK):
    return function.run(x, mask, material=material).outputs


def served(function, materials):
    """Return how many of these materials a function could use."""
    count = 0
    for each in materials:
        try:
            outputs = run(function, each)
        except InputError as error:
            assert "spent" in str(error)
        else:
            count += 1
            np.testing.assert_allclose(outputs, np.tanh(X) * MASK + MASK, atol=0.01)
    return count


def test_spent_material_cannot_be_saved(function, tmp_path):
    material = function.precompute(X, MASK)
    run(function, material)
    with pytest.raises(InputError, match="spent"):
        material.save(tmp_path / "late")
    assert not (tmp_path / "late").exists()


def test_material_is_saved_once(function, tmp_path):
    material = function.precompute(X, MASK, folder=tmp_path / "one")
    with pytest.raises(InputError, match="in a folder already"):
        material.save(tmp_path / "two")
    assert not (tmp_path / "two").exists()
    assert served(function, [material, ditto.load_material(tmp_path / "one")]) == 1


def test_copies_of_a_folder_serve_once_in_all(function, tmp_path):
    before = set(ledger().iterdir()) if ledger().exists() else set()
    function.precompute(X, MASK, folder=tmp_path / "one")
    folders = [tmp_path / "one", tmp_path / "copy", tmp_path / "backup"]
    for each in folders[1:]:
        shutil.copytree(folders[0], each)
    assert served(function, [ditto.load_material(each) for each in folders]) == 1
    shutil.rmtree(folders[0])
    shutil.copytree(folders[2], folders[0])
    for each in folders:
        with pytest.raises(InputError, match=r"spent.*account that made it"):
            ditto.load_material(each)
    assert set(ledger().iterdir()) <= before


def test_copies_in_memory_serve_once_in_all(function, tmp_path):
    material = function.precompute(X, MASK)
    copies = [material, replace(material), copy.copy(material), copy.deepcopy(material)]
    with pytest.raises(InputError, match="save it to a folder"):
        pickle.dumps(material)
    material.save(tmp_path / "one")
    with pytest.raises(InputError, match="in a folder already"):
        copies[1].save(tmp_path / "two")
    assert served(function, [*copies, ditto.load_material(tmp_path / "one")][::-1]) == 1


def test_many_at_once_spend_it_once(tmp_path):
    use = SingleUse()
    use.keep(lambda entry: (tmp_path / "entry").write_text(entry))
    entry = (tmp_path / "entry").read_text()
    uses = [use, use, *(SingleUse(entry) for _ in range(20))]
    results, threads = [], []
    for each in uses:
        threads.append(threading.Thread(target=lambda each=each: results.append(each.spend())))
    script = f"from ditto_spu.runtime.single_use import SingleUse; print(SingleUse({entry!r}).spend())"
    others = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    results += [other.communicate()[0].strip() == b"True" for other in others]
    assert sum(results) == 1 and len(results) == 24


def test_a_failed_save_spends_the_material(function, tmp_path, monkeypatch):
    material = function.precompute(X, MASK)
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", "/dev/null")
        with pytest.raises(InputError, match="cannot be written"):
            material.save(tmp_path / "one")
    assert not (tmp_path / "one").exists()
    assert served(function, [material]) == 0


def test_an_entry_is_a_name_and_no_path(tmp_path):
    (tmp_path / "precious").touch()
    assert not SingleUse(f"{'../' * 20}{tmp_path}/precious").spend()
    assert (tmp_path / "precious").exists()


def test_material_serves_the_public_inputs_that_it_was_dealt_for(function):
    material = function.precompute(X, MASK)
    for other in (MASK + 1, -MASK):
        with pytest.raises(InputError, match="other public arguments"):
            run(function, material, mask=other)
    assert served(function, [material]) == 1  # a refusal spends nothing
