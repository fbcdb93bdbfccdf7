"""The decorator `secure` turns a JAX function into one that three parties compute on secret shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from ditto_spu.calibration.calibration import Calibration
from ditto_spu.errors import InputError
from ditto_spu.function.call import Call, Result
from ditto_spu.function.options import ConfigSource, Options
from ditto_spu.function.secure_function import SecureFunction
from ditto_spu.network.model import Network
from ditto_spu.rules.load import DEFAULT

__all__ = ["Call", "ConfigSource", "Result", "SecureFunction", "calibrate", "secure", "secured"]


@overload
def secure(
    fn: Callable[..., Any],
    *,
    config: ConfigSource = ...,
    public: Sequence[str] = ...,
    owner: Mapping[str, str] | None = ...,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Sequence[str] = ...,
    masked: bool = ...,
    checked: bool = ...,
    check: bool = ...,
    guard: bool | None = ...,
    calibration: Calibration | str | Path | None = ...,
    p_error: float | None = ...,
    seed: int | None = ...,
    network: str | Network | None = ...,
) -> SecureFunction: ...


@overload
def secure(
    fn: None = None,
    *,
    config: ConfigSource = ...,
    public: Sequence[str] = ...,
    owner: Mapping[str, str] | None = ...,
    static_argnums: int | Sequence[int] = ...,
    static_argnames: str | Sequence[str] = ...,
    masked: bool = ...,
    checked: bool = ...,
    check: bool = ...,
    guard: bool | None = ...,
    calibration: Calibration | str | Path | None = ...,
    p_error: float | None = ...,
    seed: int | None = ...,
    network: str | Network | None = ...,
) -> Callable[[Callable[..., Any]], SecureFunction]: ...


def secure(
    fn: Callable[..., Any] | None = None,
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
) -> SecureFunction | Callable[[Callable[..., Any]], SecureFunction]:
    """Decorate a JAX function so that calling it runs three simulated parties on secret shares.

    Use it as `@secure`, as `@secure(...)`, or as `secure(fn, ...)`. Arguments and outputs are pytrees of
    arrays and numbers.

    config: a configuration as its name (`ditto configs`), the path of a TOML file, a dictionary or a Config.
        The default "auto" is right without any knowledge of ranges. Where ranges are known, others are
        several times cheaper.
    public: names of parameters whose values all parties and owners may know, such as masks and positions. A
        public mask reveals lengths.
    owner: who has which argument alone, such as {"params": "server", "ids": "client"}. An owner computes in
        plaintext, before sharing, everything that needs only its own arrays and public ones. Arrays without
        an owner are secret to everybody. Names may be paths with patterns, here and in `public`
        (docs/ownership.md).
    static_argnums, static_argnames: as in jax.jit.
    masked: use masked shares. One party's components of every value are masks that depend on no input, and
        that party does its work in the offline phase. Products then take one round, and half the bytes
        online. Requests take turns in which party it is.
    checked: verify every step while simulating: each value is joined and compared with its meaning.
    check: run the plaintext program beside the simulation, and raise RangeError for a value that leaves a
        range that the plan relies on. An output that lost its digits gives a RangeWarning. Without the check
        such values give a wrong result without a word.
    guard: let the parties count in shares which products left their rings, and tell the client in one bit
        whether any did (docs/security.md). Such a call raises RangeError. By default parties on hosts do so,
        and a simulation, which has `check`, does not.
    calibration: a result of `calibrate`, or the path of its file. It supplies ranges where no rule declares
        them, and under the default configuration it chooses narrow formats. It is also compared with every
        range on which a protocol relies. An observed value beyond such a range raises RangeError, and one
        close to it gives a RangeWarning.
    p_error: refuse plans that err beyond their bounds with a higher probability, or with an unknown one.
    seed: make the randomness of runs reproducible and INSECURE.
    network: the network between the parties, for which plans are made: "loopback", "lan", "wan" or
        "bandwidth=100Mbps,rtt=20ms". Where a round takes long, protocols with fewer rounds and more bytes are
        chosen, as long as the predicted time falls. By default plans are made for the network that a cluster
        file names, or for parties on one host. Results differ by rounding alone.

    Returns a `SecureFunction`, or a decorator that returns one. Raises ConfigError for a wrong configuration
    and InputError for what is no function.
    Calls raise InputError, UnsupportedOpError, RangeError and PartyError.
    """
    options = Options.of(
        config=config,
        public=public,
        owner=owner,
        static_argnums=static_argnums,
        static_argnames=static_argnames,
        masked=masked,
        checked=checked,
        check=check,
        guard=guard,
        calibration=calibration,
        p_error=p_error,
        seed=seed,
        network=network,
    )

    def decorated(function: Callable[..., Any]) -> SecureFunction:
        if not callable(function):
            raise InputError(f"secure is given {function!r:.60}, which is no function: give options by name")
        return SecureFunction(function, options)

    return decorated if fn is None else decorated(fn)


def calibrate(
    fn: Callable[..., Any],
    batches: Iterable[Any],
    *,
    config: ConfigSource | None = None,
    public: Sequence[str] = (),
    owner: Mapping[str, str] | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
) -> Calibration:
    """Record the values that `fn` takes on these batches, as `SecureFunction.calibrate` does.

    fn: a function that `secure` made, or a plain one together with options of `secure`.
    batches: each is the arguments of one call: a tuple, or a dictionary of named ones.

    Raises InputError for options beside a function that has its own, and as `SecureFunction.calibrate` does.
    """
    function = secured(
        fn,
        config=config,
        public=public,
        owner=owner,
        static_argnums=static_argnums,
        static_argnames=static_argnames,
    )
    return function.calibrate(batches)


def secured(fn: Callable[..., Any], **options: Any) -> SecureFunction:
    """Return a function that `secure` made as it is, and a plain one secured with the options that are set.

    Raises InputError for options beside a function that has its own.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if not isinstance(fn, SecureFunction):
        return SecureFunction(fn, Options.of(**given))
    if given:
        raise InputError(f"the function has options of its own: give {', '.join(given)} to `secure`")
    return fn
