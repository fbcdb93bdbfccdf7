"""No operation that SPU still runs opens a secret: its trace has no such action, its bytes are alike."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from bench.coverage import SUPPORTED, Example, steps
from ditto_spu import secure

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


@pytest.mark.parametrize("name", on_spu())
def test_bytes_do_not_depend_on_values(name: str) -> None:
    place, _, number = name.partition(":")
    example = SUPPORTED[place][int(number)]
    function = secure(example.fn, public=example.public)
    equal = [np.full_like(each, each.flat[-1]) for each in map(np.asarray, example.args)]
    reports = [function.run(*args).report for args in (example.args, equal)]
    # SPU's log sets some bytes down to another party than the one that sent them; their sum is exact.
    sent = [(sum(each.bytes_sent_per_party), [row.rounds for row in each.rows]) for each in reports]
    assert sent[0] == sent[1]
