"""The decorator: `secure` turns a JAX function into one that three parties compute on secret shares."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditto_spu.comparison import PLAINTEXT, PUMA, Comparison, ComparisonRow, accuracy
from ditto_spu.compiler import Lowered, compile_call
from ditto_spu.config import load_config
from ditto_spu.frontend import check_held, trace, whole_call
from ditto_spu.material import Material
from ditto_spu.precompute import NOTHING_HELD, Held, precompute
from ditto_spu.report import CostReport
from ditto_spu.rules import Config
from ditto_spu.simulate import hold, simulate

ConfigSource = str | Path | Mapping[str, Any] | Config


@dataclass(frozen=True)
class Call:
    """A call as it goes to three parties: compiled, its arrays in the order of the plan's inputs."""

    lowered: Lowered
    values: list[Any]
    held: tuple[int, ...]  # places of inputs that belong to arguments given to `hold`


@dataclass(frozen=True)
class Result:
    """The outputs, as the plain function would return them, and what they cost."""

    outputs: Any
    report: CostReport


def secure(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a JAX function so that calling it runs three simulated parties on secret shares.

    config: a configuration's name, path, dictionary or Config.
    public: names of parameters whose values all parties may know (masks, positions). A public mask reveals
        lengths.
    static_argnums, static_argnames: as in jax.jit.
    masked: keep every value as a masked one that two parties hold, with masks that the third knows. Products
        take one round and half the bytes online, and the third party works ahead of the inputs.
    checked: verify every declared range while simulating. seed: reproducible and INSECURE randomness.
    """
    if fn is None:
        return functools.partial(secure, **options)
    return SecureFunction(fn, **options)


class SecureFunction:
    """A function that runs under three-party computation; compiled once per shapes and static arguments."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        config: ConfigSource = "ditto",
        public: Sequence[str] = (),
        static_argnums: int | Sequence[int] = (),
        static_argnames: str | Sequence[str] = (),
        masked: bool = False,
        checked: bool = False,
        seed: int | None = None,
    ) -> None:
        self._fn = fn
        self._config = load_config(config)
        self._public = tuple(public) if not isinstance(public, str) else public
        self._static: dict[str, Any] = {"static_argnums": static_argnums, "static_argnames": static_argnames}
        self._masked = masked
        self._checked = checked
        self._seed = seed
        self._compiled: dict[Any, Lowered] = {}
        self._holding: dict[str, Any] = {}
        self._held: dict[str, Held] = {}
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs alone."""
        return self.run(*args, **kwargs).outputs

    def run(
        self,
        *args: Any,
        progress: Callable[[int, int], None] | None = None,
        material: Material | None = None,
        **kwargs: Any,
    ) -> Result:
        """Outputs and cost report. `progress(done, steps)` is called after every step.

        material: what `precompute` made for these arguments' shapes; it serves once.
        """
        args, kwargs = self._whole(args, kwargs)
        lowered = self._lower(args, kwargs)
        values = self._leaves(args, kwargs)
        done = simulate(
            lowered.plan,
            values,
            seed=self._seed,
            checked=self._checked,
            progress=progress,
            material=material,
            held=self._shares(lowered, values),
        )
        outputs = jax.tree_util.tree_unflatten(lowered.traced.out_tree, done.outputs)
        return Result(outputs, done.report)

    def precompute(self, *args: Any, folder: str | Path | None = None, **kwargs: Any) -> Material:
        """Make the offline part of one request ahead: of the secret arguments only shapes matter.

        folder: where to keep it (`ditto_spu.load_material` reads it); else it stays in memory.
        """
        args, kwargs = self._whole(args, kwargs)
        lowered = self._lower(args, kwargs)
        values = self._leaves(args, kwargs)
        made = precompute(lowered.plan, values, seed=self._seed, held=self._shares(lowered, values))
        return made if folder is None else made.save(Path(folder))

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """Compile and flatten a call for parties elsewhere. Held arguments may be jax.ShapeDtypeStructs."""
        args, kwargs = self._whole(args, kwargs)
        lowered = self._lower(args, kwargs)
        return Call(lowered, self._leaves(args, kwargs), tuple(self._held_places(lowered)))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Compile for these arguments without running."""
        return self._lower(*self._whole(args, kwargs))

    def _lower(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Lowered:
        key = self._key(args, kwargs)
        if key is None or key not in self._compiled:
            traced = trace(self._fn, args, kwargs, public=self._public, **self._static)
            lowered = compile_call(
                traced, self._config, getattr(self._fn, "__name__", "function"), self._masked
            )
            if key is None:
                return lowered
            self._compiled[key] = lowered
        return self._compiled[key]

    def hold(self, **arguments: Any) -> SecureFunction:
        """The same function with arguments given once and for all, such as weights.

        They are shared at the first call and serve all later ones, which leave them out.
        """
        check_held(self._fn, arguments)
        return self._like(self._config, self._holding | arguments)

    def _whole(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call with the held arguments in it: all by name then."""
        if not self._holding:
            return args, kwargs
        return (), whole_call(self._fn, self._holding, args, kwargs)

    def _shares(self, lowered: Lowered, values: list[Any]) -> Held:
        """The held arguments' shares for this plan."""
        plan = lowered.plan
        key = plan.hash()
        if self._holding and key not in self._held:
            self._held[key] = hold(plan, values, self._held_places(lowered), self._seed)
        return self._held.get(key, NOTHING_HELD)

    def _held_places(self, lowered: Lowered) -> list[int]:
        inputs = lowered.plan.inputs
        return [place for place, each in enumerate(inputs) if each.path.split("/")[0] in self._holding]

    def with_config(self, config: ConfigSource) -> SecureFunction:
        """The same function under another configuration."""
        return self._like(config, self._holding)

    def _like(self, config: ConfigSource, holding: Mapping[str, Any]) -> SecureFunction:
        other = SecureFunction(
            self._fn,
            config=config,
            public=self._public,
            masked=self._masked,
            checked=self._checked,
            seed=self._seed,
            **self._static,
        )
        other._holding = dict(holding)
        return other

    def compare(
        self,
        *args: Any,
        configs: Sequence[ConfigSource] | None = None,
        puma: bool = True,
        emulated: bool = True,
        **kwargs: Any,
    ) -> Comparison:
        """Error and cost: plaintext, emulation, each configuration (default: this function's), PUMA."""
        whole, named = self._whole(args, kwargs)
        plain = jax.jit(self._fn, **self._static)
        plain(*whole, **named)  # compiles
        started = time.perf_counter()
        expected = [np.asarray(each) for each in jax.tree_util.tree_leaves(plain(*whole, **named))]
        rows = [ComparisonRow(config=PLAINTEXT, seconds=time.perf_counter() - started)]
        for each in (self._config,) if configs is None else configs:
            function = self.with_config(each)
            if emulated:
                rows.append(function._emulated_row(expected, whole, named))
            rows.append(function._measured_row(expected, args, kwargs))
        if puma:
            rows.append(self._puma_row(expected, whole, named))
        return Comparison(tuple(rows))

    def _emulated_row(self, expected: list[Any], args: Any, kwargs: Any) -> ComparisonRow:
        lowered = self._lower(args, kwargs)
        values = self._leaves(args, kwargs)
        lowered.emulate(values)  # compiles
        started = time.perf_counter()
        outputs = lowered.emulate(values)
        seconds = time.perf_counter() - started
        return ComparisonRow(
            config=f"{self._config.name}, emulated",
            seconds=seconds,
            part_of=self._config.name,
            note="plaintext with the same roundings",
            **accuracy(outputs, expected),
        )

    def _measured_row(self, expected: list[Any], args: Any, kwargs: Any) -> ComparisonRow:
        self.run(*args, **kwargs)  # compiles
        result = self.run(*args, **kwargs)
        return ComparisonRow(
            config=self._config.name,
            seconds=result.report.seconds,
            bytes_sent_per_party=result.report.bytes_sent_per_party,
            offline_bytes_sent_per_party=result.report.offline_bytes_sent_per_party,
            messages_per_party=result.report.messages_per_party,
            rounds=result.report.rounds,
            **accuracy(jax.tree_util.tree_leaves(result.outputs), expected),
        )

    def _puma_row(self, expected: list[Any], args: Any, kwargs: Any) -> ComparisonRow:
        from ditto_spu.peers.puma import run_puma  # imports spu's processes: only for whoever compares

        result = run_puma(self._fn, args, kwargs, public=self._public, **self._static)
        return ComparisonRow(
            config=PUMA,
            seconds=result.seconds,
            bytes_sent_per_party=result.bytes_sent_per_party,
            messages_per_party=result.messages_per_party,
            note="stock SPU; messages bound the rounds",
            **accuracy(jax.tree_util.tree_leaves(result.outputs), expected),
        )

    def _leaves(self, args: Any, kwargs: Any) -> list[Any]:
        """The arrays of a call in the order of the plan's inputs."""
        nums, names = self._static_of()
        dynamic = tuple(arg for index, arg in enumerate(args) if index not in nums)
        named = {key: kwargs[key] for key in kwargs if key not in names}
        return jax.tree_util.tree_leaves((dynamic, named))

    def _static_of(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        nums, names = self._static["static_argnums"], self._static["static_argnames"]
        return (
            (nums,) if isinstance(nums, int) else tuple(int(each) for each in nums),
            (names,) if isinstance(names, str) else tuple(str(each) for each in names),
        )

    def _key(self, args: Any, kwargs: Any) -> Any:
        """What a compilation depends on; None if something cannot be hashed (then nothing is cached)."""
        nums, names = self._static_of()
        static = (
            tuple(arg for index, arg in enumerate(args) if index in nums),
            tuple(sorted((key, kwargs[key]) for key in kwargs if key in names)),
        )
        dynamic = (
            tuple(arg for index, arg in enumerate(args) if index not in nums),
            {key: kwargs[key] for key in kwargs if key not in names},
        )
        leaves, tree = jax.tree_util.tree_flatten(dynamic)
        try:
            shapes = tuple((np.shape(leaf), str(jax.dtypes.result_type(leaf))) for leaf in leaves)
            key = (static, tree, shapes, str(jax.dtypes.canonicalize_dtype(np.int64)))
            hash(key)
        except TypeError:
            return None
        return key
