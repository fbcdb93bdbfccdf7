"""What pyproject.toml says by hand agrees with the tree."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_folder_of_code_is_a_declared_package() -> None:
    listed = re.search(r"packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert listed is not None
    declared = set(re.findall(r'"([\w.]+)"', listed[1])) - {"ditto_spu.configs"}
    found = {
        ".".join(
            ("ditto_kernels" if part == "kernels" else part) for part in file.parent.relative_to(ROOT).parts
        )
        for top in ("ditto_spu", "kernels")
        for file in (ROOT / top).rglob("*.py")
    }
    assert found == declared


def test_the_lock_pins_what_spu_forces() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for pin in re.findall(r'^  "([\w-]+==[\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        assert re.search(rf"^{re.escape(pin)}$", lock, re.MULTILINE), pin
    assert not re.search(r"^(torch|sentence)", lock, re.MULTILINE)
    assert all("==" in line for line in lock.splitlines() if not line.startswith("#"))
