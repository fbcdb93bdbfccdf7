"""No operation that SPU still runs opens a secret: no action does, and bytes do not depend on values."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.coverage import SUPPORTED, Example, steps
from ditto_spu import secure
from ditto_spu.spu.steps import SpuSteps

TIMES = 16  # runs of every example at three processes
# SPU's names of actions that turn a shared value into a public one.
OPENING = re.compile(r"\[TR\] \[B\]\s+(\w+\.(?:\w*reveal\w*|_?[abs]2p|_?[abs]2v|_?[sv]2p))\(")

SCRIPT = """
import sys
import jax.numpy as jnp
import numpy as np
import ditto_spu.spu.party as party
from bench.coverage import SUPPORTED
from ditto_spu import secure

plain = party.runtime_config

def traced(*args, **options):
    config = plain(*args, **options)
    config.enable_action_trace = True
    return config

party.runtime_config = traced
if sys.argv[1] == "reveals":
    import threading
    from spu import libspu
    from ditto_spu.spu.values import share
    code = '''func.func @main(%arg0: tensor<3x!pphlo.secret<f32>>) -> tensor<3xf32> {
      %0 = pphlo.convert %arg0 : (tensor<3x!pphlo.secret<f32>>) -> tensor<3xf32>
      return %0 : tensor<3xf32>
    }'''
    program = libspu.Executable("main", ["in0"], ["out0.f32"], code.encode()).SerializeToString()
    shares = share(np.ones(3, np.float32))
    work = lambda link: party.SpuParty(link).run(program, [shares[link.rank]])
    threads = [threading.Thread(target=work, args=(link,)) for link in party.create_links(20)]
    [each.start() for each in threads]
    [each.join() for each in threads]
for name in sys.argv[2:]:
    place, _, number = name.partition(":")
    example = SUPPORTED[place][int(number)]
    public = example.public
    print(f"\\nEXAMPLE {name}", flush=True)
    secure(example.fn, public=public, seed=1)(*example.args)
    print("", flush=True)
"""


def on_spu() -> list[str]:
    """Return the examples of docs/coverage.md of which SPU runs a step."""
    return [
        f"{name}:{number}"
        for name, examples in SUPPORTED.items()
        for number, example in enumerate(examples)
        if "spu" in _kinds(example)
    ]


def _kinds(example: Example) -> list[str]:
    return re.split(r"[, ]+", steps(example))


def trace(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_action_that_opens_is_found() -> None:
    assert {match[1] for match in OPENING.finditer(trace("reveals"))} >= {"hal.reveal", "mpc.s2p", "mpc.a2p"}


def test_no_operation_on_spu_opens_anything() -> None:
    examples = on_spu()
    lines = trace("examples", *examples)
    assert lines.count("EXAMPLE ") == len(examples) and lines.count("[TR] [B]") > 1000
    found, current = set(), ""
    for line in lines.splitlines():
        current = line if line.startswith("EXAMPLE ") else current
        if match := OPENING.search(line):
            found.add((current, match[1]))
    assert not found


def test_bytes_and_messages_of_each_party_do_not_depend_on_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of every example run many times at three processes, on shares of two choices of values.

    SPU draws from public randomness which party takes which role in a conversion or a truncation. So a
    party's counts differ from run to run, whatever the values are. The sums over the parties never do.
    """
    names, programs = on_spu(), {}
    calls: list[list[Any]] = [[], [], []]
    plain = SpuSteps.run_step

    def noted(steps: SpuSteps, *call: Any) -> Any:
        programs.update(steps._programs)
        calls[steps._party.rank].append(call)
        return plain(steps, *call)

    monkeypatch.setattr(SpuSteps, "run_step", noted)
    for name in names:
        place, _, number = name.partition(":")
        example = SUPPORTED[place][int(number)]
        function = secure(example.fn, public=example.public)
        for args in (example.args, _equal(example)):
            function.run(*args)
    assert len(calls[0]) == 2 * len(names)  # Each of them has one step on SPU.
    sent = _replayed(tmp_path, programs, calls)  # (party, time, call, bytes and messages)
    for place, name in enumerate(names):
        some, others = sent[:, :, 2 * place], sent[:, :, 2 * place + 1]
        assert len(np.unique(np.concatenate([some, others], axis=1).sum(axis=0), axis=0)) == 1, name
        apart = np.abs(some.mean(axis=1) - others.mean(axis=1))
        deviation = np.sqrt((some.var(axis=1) + others.var(axis=1)) / TIMES)
        assert np.all(apart <= 5 * deviation), f"{name}: {some.mean(axis=1)} and {others.mean(axis=1)}"


def _equal(example: Example) -> list[Any]:
    """Return arguments of which each has equal elements. Public ones stay, as they may be seen."""
    names = list(inspect.signature(example.fn).parameters)
    return [
        each if name in example.public else np.full_like(each, np.asarray(each).flat[-1])
        for name, each in zip(names, example.args, strict=True)
    ]


def _replayed(folder: Path, programs: dict[str, bytes], calls: list[list[Any]]) -> NDArray[np.int64]:
    """Return the bytes and messages of each party, time and call: (3, TIMES, calls, 2)."""
    for rank, mine in enumerate(calls):
        (folder / f"calls{rank}").write_bytes(pickle.dumps((programs, mine)))
    addresses = [f"unix:{folder / f'party{rank}'}" for rank in range(3)]
    command = [sys.executable, "-m", "tests.spu.step_process", str(folder), *addresses]
    children = [subprocess.Popen([*command, str(rank), str(TIMES)]) for rank in range(3)]
    assert [child.wait(300) for child in children] == [0, 0, 0]
    sent = [json.loads((folder / f"sent{rank}").read_text()) for rank in range(3)]
    return np.array(sent).reshape(3, TIMES, len(calls[0]), 2)
