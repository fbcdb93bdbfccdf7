"""The options of a secure function, checked when they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ditto_spu.calibration.calibration import Calibration, load_calibration
from ditto_spu.frontend.static_arguments import Signature
from ditto_spu.rules.load import DEFAULT, load_config
from ditto_spu.rules.rule import Config

ConfigSource = str | Path | Mapping[str, Any] | Config


@dataclass(frozen=True)
class Options:
    """The options of `secure`, which tells what each means, with configuration and calibration loaded."""

    config: Config
    public: tuple[str, ...] | str
    owner: Mapping[str, str] | None
    signature: Signature
    masked: bool
    checked: bool
    check: bool
    guard: bool | None
    calibration: Calibration | None
    p_error: float | None
    seed: int | None

    @classmethod
    def of(
        cls,
        *,
        config: ConfigSource = DEFAULT,
        public: Sequence[str] = (),
        owner: Mapping[str, str] | None = None,
        static_argnums: int | Sequence[int] = (),
        static_argnames: str | Sequence[str] = (),
        masked: bool = False,
        checked: bool = False,
        check: bool = True,
        guard: bool | None = None,
        calibration: Calibration | str | Path | None = None,
        p_error: float | None = None,
        seed: int | None = None,
    ) -> Options:
        """Make options from the forms that a user may write.

        Raises ConfigError for a wrong configuration, and InputError for a calibration that cannot be read.
        """
        return cls(
            load_config(config),
            public if isinstance(public, str) else tuple(public),
            owner,
            Signature.of(static_argnums, static_argnames),
            masked,
            checked,
            check,
            guard,
            load_calibration(calibration) if isinstance(calibration, str | Path) else calibration,
            p_error,
            seed,
        )

    def with_config(self, config: ConfigSource) -> Options:
        """Return the same options under another configuration."""
        return replace(self, config=load_config(config))

    def with_calibration(self, calibration: Calibration | str | Path) -> Options:
        """Return the same options with another calibration, or the path of its file."""
        loaded = load_calibration(calibration) if isinstance(calibration, str | Path) else calibration
        return replace(self, calibration=loaded)
