"""Fences: which room may import which, nothing happens at import, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [file for top in ("ditto_spu", "kernels", "bench") for file in sorted((ROOT / top).rglob("*.py"))]
MAX_LINES = 350

# A room imports rooms of lower floors alone. The floors name every room: a new one has to be placed here.
FLOORS = (
    ("errors",),
    ("ir", "network"),
    ("plan",),
    ("ops",),
    ("rules",),
    ("frontend", "spu"),
    ("passes", "runtime"),
    ("calibration",),
    ("compiler",),
    ("compare", "emulation"),
    ("function",),
    ("api",),
    ("checkpoints", "cluster", "diffusion", "distill", "generation", "search"),
    ("architectures",),
    ("models",),
    ("gateway",),
    ("cli", "demos"),
)
KERNEL_FLOORS = (
    ("values",),
    ("machine",),
    ("protocol",),
    ("sharing",),
    ("bits",),
    ("maximum", "products"),
    ("activation", "guard", "inverse"),
    ("norm", "softmax", "trigonometry"),
)
# Who may import these: everything else goes through them.
GATES = {
    "spu": ("ditto_spu/spu/", "ditto_spu/compare/stock_spu"),
    "jaxlib.mlir": ("ditto_spu/ir/",),
}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def importers(package: str) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for file in FILES
        if any(name == package or name.startswith(f"{package}.") for name in imports(file))
    }


def rooms_of(top: str) -> dict[str, list[Path]]:
    """The files of every room; a file beside the folders is a room of its own. The front belongs to none."""
    rooms: dict[str, list[Path]] = {}
    for file in sorted((ROOT / top).rglob("*.py")):
        parts = file.relative_to(ROOT / top).with_suffix("").parts
        if parts != ("__init__",):
            rooms.setdefault(parts[0], []).append(file)
    return rooms


def upward(top: str, package: str, floors: tuple[tuple[str, ...], ...]) -> list[str]:
    """Imports that do not lead to a lower floor."""
    floor = {room: place for place, rooms in enumerate(floors) for room in rooms}
    wrong = []
    for room, files in rooms_of(top).items():
        for file in files:
            for name in imports(file):
                parts = name.split(".")
                if parts[0] != package or len(parts) < 2 or parts[1] == room or parts[1] not in floor:
                    continue
                if floor[parts[1]] >= floor[room]:
                    wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    return wrong


def fresh(code: str) -> str:
    """What a new interpreter prints, its warnings included."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("top", "package", "floors"),
    [("ditto_spu", "ditto_spu", FLOORS), ("kernels", "ditto_kernels", KERNEL_FLOORS)],
    ids=["ditto_spu", "kernels"],
)
def test_rooms_import_downward(top, package, floors):
    assert set(rooms_of(top)) == {room for rooms in floors for room in rooms}
    assert upward(top, package, floors) == []


@pytest.mark.parametrize("package", GATES)
def test_gates(package):
    found = importers(package)
    assert found
    assert [file for file in found if not file.startswith(GATES[package])] == []


def test_the_kernels_know_nothing_of_the_compiler():
    for package in ("spu", "ditto_spu", "bench", "transformers", "flax"):
        assert not [file for file in importers(package) if file.startswith("kernels/")]


def test_nothing_but_the_bench_imports_the_bench():
    assert all(file.startswith("bench/") for file in importers("bench"))


def test_few_files_lie_outside_of_rooms():
    directly = {file.stem for file in (ROOT / "ditto_spu").glob("*.py")}
    assert directly == {"__init__", "api", "compiler", "errors"}
    assert {file.stem for file in (ROOT / "kernels").glob("*.py")} == {"__init__"}


def test_importing_the_kernels_pulls_neither_spu_nor_the_compiler():
    heavy = "{'spu', 'ditto_spu', 'flax', 'transformers'}"
    assert fresh(f"import sys, ditto_kernels; print({heavy} & set(sys.modules))").strip() == "set()"


def test_a_cluster_client_does_not_need_the_simulator():
    simulator = ROOT / "ditto_spu" / "runtime" / "simulate.py"
    assert simulator.exists()
    assert not [
        file for file in importers("ditto_spu.runtime.simulate") if file.startswith("ditto_spu/cluster")
    ]


def test_importing_prints_nothing_and_leaves_the_environment_and_logging_alone():
    code = (
        "import os, logging, sys, jax, spu\n"  # they set some of their own
        "before = dict(os.environ), logging.root.level, list(logging.root.handlers)\n"
        "import ditto_spu\n"
        "assert (dict(os.environ), logging.root.level, list(logging.root.handlers)) == before\n"
        "assert not {'transformers', 'flax'} & set(sys.modules)"
    )
    assert fresh(code) == ""


@pytest.mark.parametrize("flag", [False, True])
def test_neither_import_nor_run_changes_jaxs_configuration(flag):
    code = f"""
import jax, numpy as np
jax.config.update("jax_enable_x64", {flag})
before = dict(jax.config.values)
import ditto_spu
secure = ditto_spu.secure(lambda x: x @ x.T * 0.3, config={{"default": "fxp64.18"}})
assert secure(np.ones((2, 2), np.float32)).dtype == np.float32
assert dict(jax.config.values) == before
assert jax.numpy.asarray(np.float64(1)).dtype == ("float64" if {flag} else "float32")
"""
    assert fresh(code) == ""


def test_files_are_short_and_say_what_they_are():
    for file in FILES:
        name = str(file.relative_to(ROOT))
        assert len(file.read_text().splitlines()) <= MAX_LINES, name
        assert ast.get_docstring(ast.parse(file.read_text())), name


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "base", "helpers", "misc"}
    assert not [file for file in FILES if file.stem in drawers]
