"""Read precision configurations from TOML and check them.

configs/README.md describes the grammar.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import ConfigError, nearest
from ditto_spu.rules.rule import KEYS, VALUES, Config, Rule, rule_error, toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT", "Config", "Rule", "configurations", "load_config"]

DEFAULT = "auto"  # of functions that are secured without a configuration


def configurations() -> tuple[str, ...]:
    """Return the names of the configurations that come with the package."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_config(source: str | Path | Mapping[str, Any] | Config) -> Config:
    """Read a configuration.

    source: a name of `configurations()`, a path (a `Path`, or a string that ends with .toml or has a slash),
        the content of a file as a dictionary, or a `Config`, which is returned as it is.
    Raises ConfigError for an unknown name, for a file that cannot be read, and for anything that breaks the
    grammar.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _config(source, str(source.get("name", "custom")), "a dictionary")
    path = _file(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}{_quoted_line(text, str(error))}") from None
    return _config(table, path.stem, path.name)


def _folder() -> Path:
    """Return configs/, which lies inside an installed package, and beside the package in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "configs"
    return installed if installed.is_dir() else here.parent / "configs"


def _file(source: str | Path) -> Path:
    text = str(source)
    if isinstance(source, Path) or text.endswith(".toml") or "/" in text:
        return Path(source)
    if text not in configurations():
        raise ConfigError(
            f"there is no configuration '{text}'{nearest(text, configurations())} (a path ends with .toml)"
        )
    return _folder() / f"{text}.toml"


def _config(table: Mapping[str, Any], name: str, source: str) -> Config:
    allowed = ("name", "description", "default", "narrow", "rule")
    for key in table:
        if key not in allowed:
            raise ConfigError(f"{source}: unknown key '{key}'" + nearest(key, allowed))
    if "default" not in table:
        raise ConfigError(f'{source}: the default format is missing: add a line such as default = "fxp32.12"')
    try:
        default = _format("default", table["default"])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    narrow = table.get("narrow", False)
    if not isinstance(narrow, bool):
        raise ConfigError(f"{source}: narrow must be true or false, not {narrow!r}")
    rows = table.get("rule", [])
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"{source}: rules are written as [[rule]] tables, with two brackets")
    return Config(
        name=str(table.get("name", name)),
        default_format=default,
        description=str(table.get("description", "")),
        narrow=narrow,
        rules=tuple(_rule(row, index, source) for index, row in enumerate(rows)),
        source=source,
    )


def _rule(row: Mapping[str, Any], index: int, source: str) -> Rule:
    try:
        return Rule(**{key: _value(key, value) for key, value in row.items()})
    except ConfigError as error:
        raise rule_error(str(error), index, toml(row), source) from None


def _value(key: str, value: Any) -> Any:
    """Return one value of a rule in its own type."""
    if key not in KEYS + VALUES:
        raise ConfigError(f"unknown key '{key}'" + nearest(key, KEYS + VALUES))
    if key in ("format", "operand", "inner"):
        return _format(key, value)
    if key == "op":
        kinds = (value,) if isinstance(value, str) else value
        if (
            not isinstance(kinds, list | tuple)
            or not kinds
            or not all(isinstance(kind, str) for kind in kinds)
        ):
            raise ConfigError("op must be a name or a list of names")
        return tuple(kinds)
    if key in ("number", "of"):
        found = value if key == "number" and isinstance(value, list | tuple) else (value,)
        if not all(isinstance(each, int) and not isinstance(each, bool) for each in found):
            raise ConfigError(f"{key} must be a whole number{' or a list of them' * (key == 'number')}")
        return tuple(found) if key == "number" else value
    if key in ("range", "error"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key} must be a number, not {value!r}")
        return float(value)
    wanted = bool if key == "optional" else str
    if not isinstance(value, wanted):
        raise ConfigError(f"{key} must be {'true or false' if wanted is bool else 'a string'}, not {value!r}")
    return value


def _format(key: str, value: Any) -> Fxp:
    if isinstance(value, Fxp):
        return value
    try:
        return Fxp.parse(str(value))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def _quoted_line(text: str, message: str) -> str:
    at = re.search(r"line (\d+)", message)
    lines = text.splitlines()
    return f"\n  {lines[int(at[1]) - 1]}" if at and 0 < int(at[1]) <= len(lines) else ""
