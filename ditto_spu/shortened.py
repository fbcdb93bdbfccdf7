"""A configuration with fewer fraction bits everywhere, and any configuration as the text of a file."""

from __future__ import annotations

from dataclasses import replace

from ditto_kernels.ring import Fxp
from ditto_spu.errors import ConfigError
from ditto_spu.rules import Config, Rule

LEAST = 1  # fraction bits that a format keeps


def shortened(config: Config, bits: int) -> Config:
    """The same rules, rings and ranges with so many fraction bits less in every format; one stays."""
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


def config_text(config: Config) -> str:
    """A configuration as TOML, without comments."""
    head = [f'description = "{config.description}"', f'default = "{config.default_format}"']
    return "\n".join([*head, *(f"\n[[rule]]\n{rule}" for rule in config.rules)]) + "\n"
