"""Fences: who may import what, nothing happens at import, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [file for top in ("ditto_spu", "kernels", "bench") for file in sorted((ROOT / top).rglob("*.py"))]
MAX_LINES = 350
# Each holds one table of many small entries that are read one at a time.
LONGER = {"ditto_spu/ir.py": 570}


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


def fresh(code: str) -> str:
    """What a new interpreter prints, its warnings included."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    return done.stdout + done.stderr


def test_only_the_spu_files_import_spu():
    assert (
        importers("spu") == {file for file in importers("spu") if file.startswith("ditto_spu/spu_")} != set()
    )


def test_only_ir_imports_the_bindings():
    assert importers("jaxlib.mlir") == {"ditto_spu/ir.py"}


def test_the_kernels_know_nothing_of_the_compiler():
    for package in ("spu", "ditto_spu", "bench", "transformers", "flax"):
        assert not [file for file in importers(package) if file.startswith("kernels/")]


def test_the_compiler_knows_nothing_of_its_users():
    for user in ("cli", "demo", "models"):
        allowed = ("bench/", "ditto_spu/models", "ditto_spu/cli", "ditto_spu/demo")
        assert all(file.startswith(allowed) for file in importers(f"ditto_spu.{user}")), user
    assert all(file.startswith("bench/") for file in importers("bench"))


def test_importing_the_kernels_pulls_neither_spu_nor_the_compiler():
    heavy = "{'spu', 'ditto_spu', 'flax', 'transformers'}"
    assert fresh(f"import sys, ditto_kernels; print({heavy} & set(sys.modules))").strip() == "set()"


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
        assert len(file.read_text().splitlines()) <= LONGER.get(name, MAX_LINES), name
        assert ast.get_docstring(ast.parse(file.read_text())), name


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "base", "helpers", "misc"}
    assert not [file for file in FILES if file.stem in drawers]
