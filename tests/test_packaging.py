"""What pyproject.toml says by hand agrees with the tree."""

from __future__ import annotations

import hashlib
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


def test_both_packages_say_that_they_are_typed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    data = re.search(r"\[tool\.setuptools\.package-data\]\n(.*?)\n\n", text, re.DOTALL)
    assert data is not None
    for package, folder in {"ditto_spu": "ditto_spu", "ditto_kernels": "kernels"}.items():
        assert re.search(rf'^{package} = \[.*"py\.typed".*\]$', data[1], re.MULTILINE), package
        assert (ROOT / folder / "py.typed").read_text() == ""


def test_the_license_is_the_unmodified_text_that_the_metadata_names() -> None:
    apache_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == apache_2
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^license = .*"Apache-2\.0"', text, re.MULTILINE)
    assert '"License :: OSI Approved :: Apache Software License"' in text
