"""Derive configurations with fewer fraction bits everywhere, and write configurations as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import ConfigError, InputError
from ditto_spu.rules.rule import Config, Rule

LEAST = 1  # the fraction bits that a format keeps at least


def shortened(config: Config, bits: int) -> Config:
    """Return the same rules, rings and ranges with `bits` fraction bits less in every format.

    A format keeps at least one fraction bit, if it has one.
    Raises ConfigError for a negative number of bits.
    """
    if bits < 0:
        raise ConfigError(f"a configuration is shortened by 0 bits or more, not by {bits}")

    def less(fxp: Fxp | None) -> Fxp | None:
        kept = None if fxp is None else max(fxp.fraction_bits - bits, min(fxp.fraction_bits, LEAST))
        return None if fxp is None or kept is None else Fxp(fxp.ring_bits, kept)

    def shorter(rule: Rule) -> Rule:
        values = {name: less(getattr(rule, name)) for name in ("format", "operand", "inner")}
        return replace(rule, format=values["format"], operand=values["operand"], inner=values["inner"])

    default = less(config.default_format)
    assert default is not None
    return replace(
        config,
        name=f"{config.name}-{bits}",
        description=f"{config.name} with {bits} fraction bits less everywhere",
        default_format=default,
        rules=tuple(map(shorter, config.rules)),
    )


def save_config(config: Config, path: Path) -> None:
    """Write a configuration as TOML, without comments.

    Raises InputError if the path does not end with .toml.
    """
    if path.suffix != ".toml":
        raise InputError(f"a configuration's file ends with .toml, but '{path}' does not")
    path.write_text(config_text(config), encoding="utf-8")


def config_text(config: Config) -> str:
    """Return a configuration as TOML, without comments."""
    head = f'description = "{config.description}"\ndefault = "{config.default_format}"\n'
    head += "narrow = true\n" if config.narrow else ""
    return head + "".join(f"\n[[rule]]\n{rule}\n" for rule in config.rules)
