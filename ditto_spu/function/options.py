"""The options of a secure function, checked when they are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ditto_spu.calibration.calibration import Calibration, load_calibration
from ditto_spu.errors import InputError
from ditto_spu.frontend.static_arguments import Signature
from ditto_spu.network.model import Network, parse_network
from ditto_spu.rules.load import DEFAULT, load_config
from ditto_spu.rules.rule import Config

ConfigSource = str | Path | Mapping[str, Any] | Config


# What each option may be, besides what it is by default.
_NAMES = ((str,), "a name or several names")
_FLAG = ((bool, np.bool_), "True or False")
_FORMS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "public": _NAMES,
    "static_argnums": ((int, np.integer), "a number or several numbers"),
    "static_argnames": _NAMES,
    "masked": _FLAG,
    "checked": _FLAG,
    "check": _FLAG,
    "guard": ((bool, np.bool_, type(None)), "True, False or None"),
    "calibration": ((Calibration, str, Path, type(None)), "a result of `calibrate`, or the path of its file"),
    "p_error": ((float, int, type(None)), "a probability"),
    "seed": ((int, np.integer, type(None)), "a whole number"),
    "network": ((str, Network, type(None)), '"loopback", "lan", "wan" or "bandwidth=100Mbps,rtt=20ms"'),
}
_SEVERAL = ("public", "static_argnums", "static_argnames")


def _check(name: str, value: Any) -> None:
    forms, what = _FORMS[name]
    several = name in _SEVERAL and not isinstance(value, str) and isinstance(value, Collection)
    if not all(isinstance(each, forms) for each in (value if several else [value])):
        raise InputError(f"{name} is {value!r:.60}: give {what}")


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
    network: Network | None

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
        network: str | Network | None = None,
    ) -> Options:
        """Make options from the forms that a user may write.

        Raises ConfigError for a wrong configuration, and InputError for a calibration that cannot be read and
        for options of the wrong type.
        """
        given = {
            "public": public,
            "static_argnums": static_argnums,
            "static_argnames": static_argnames,
            "masked": masked,
            "checked": checked,
            "check": check,
            "guard": guard,
            "calibration": calibration,
            "p_error": p_error,
            "seed": seed,
            "network": network,
        }
        for name, value in given.items():
            _check(name, value)
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
            parse_network(network) if isinstance(network, str) else network,
        )

    def bound_to(self, fn: Callable[..., Any]) -> Options:
        """Return the same options for a function, whose parameters tell places of names.

        Raises InputError for a static name that the function does not have.
        """
        return replace(self, signature=self.signature.bound_to(fn))

    def with_config(self, config: ConfigSource) -> Options:
        """Return the same options under another configuration."""
        return replace(self, config=load_config(config))

    def with_calibration(self, calibration: Calibration | str | Path) -> Options:
        """Return the same options with another calibration, or the path of its file."""
        loaded = load_calibration(calibration) if isinstance(calibration, str | Path) else calibration
        return replace(self, calibration=loaded)
