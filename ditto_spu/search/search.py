"""Searches for the cheapest formats and approximations whose emulated error stays within a budget."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.api import ConfigSource, SecureFunction, secured
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.compare.table import accuracy
from ditto_spu.compiler import Lowered, compile_program
from ditto_spu.emulation.emulator import Emulator
from ditto_spu.emulation.kernel_errors import kernel_errors
from ditto_spu.errors import ConfigError, DittoError, InputError, RangeWarning
from ditto_spu.network.model import Network, parse_network, predicted_seconds
from ditto_spu.ops.decision import decided
from ditto_spu.passes.pipeline import Work, advance, begin
from ditto_spu.rules.load import load_config
from ditto_spu.rules.rule import Config
from ditto_spu.search.changes import Group, Move, groups, moves
from ditto_spu.search.result import BASELINES, Point, SearchResult, Sensitivity

BITS = (-2, -1, 0, 1)  # the changes in fraction bits of the sensitivity report


@dataclass(frozen=True)
class ErrorBudget:
    """Limits on the error of the outputs against plaintext.

    max, mean: the largest and the mean absolute error.
    cosine: the least cosine along the last dimension.
    metric: a function of the user. It is called with the outputs and the expected outputs of a call.
    metric_limit: the largest value that the metric may have. Each of the two needs the other.

    A limit that is None does not apply. Raises InputError for a limit that is not positive.
    """

    max: float | None = None
    mean: float | None = None
    cosine: float | None = None
    metric: Callable[[Sequence[Any], Sequence[Any]], float] | None = field(default=None, compare=False)
    metric_limit: float | None = None

    def __post_init__(self) -> None:
        if (self.metric is None) != (self.metric_limit is None):
            raise InputError("a metric needs its metric_limit, and the other way around")
        for name in ("max", "mean", "metric_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"ErrorBudget: {name} must be positive, not {value:g}")

    def excess(self, point: Point) -> float:
        """Return by which factor, less one, a point exceeds the worst of the limits.

        Returns 0 if the point is within the budget.
        """
        ratios = [0.0]
        for limit, value in (
            (self.max, point.max_abs_error),
            (self.mean, point.mean_abs_error),
            (self.metric_limit, point.metric),
        ):
            if limit is not None and value is not None:
                ratios.append(value / limit - 1)
        if self.cosine is not None:
            ratios.append((1 - point.cosine) / max(1 - self.cosine, 1e-12) - 1)
        return max(ratios)


def search(
    fn: Callable[..., Any],
    batches: Iterable[Any],
    budget: ErrorBudget | None = None,
    *,
    network: str = "LAN",
    start: ConfigSource = "ditto",
    seconds: float = 240.0,
    progress: Callable[[str], None] | None = None,
    public: Sequence[str] = (),
    owner: Mapping[str, str] | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
) -> SearchResult:
    """Find the rules that cost least, by the kernels' derived costs on a network, within an error budget.

    fn, public, owner, static_argnums, static_argnames: as for `calibrate`.
    batches: as for `calibrate`, with equal shapes.
    budget: without it, the errors of `start` are the limits.
    network: as `network.model.parse_network` reads it.
    start: the configuration from which the search starts.
    seconds: no further change is tried after this time.
    progress: is called with a line of text at every step.

    The search starts from `start` with the ranges that calibration supplies. It tries changes of one value
    for one group of operations, each alone. Changes that make the plan cheaper, or the error smaller at no
    cost, are tried again in the order of their savings, each on top of those that were kept. Errors are those
    of the emulation over all batches, disturbed by the errors that kernels add (`emulator`, `kernel_errors`).

    Raises InputError if batches have different shapes or if the program has steps on SPU, and ConfigError if
    no configuration is within the budget.
    """
    on = parse_network(network)
    function = secured(
        fn, public=public, owner=owner, static_argnums=static_argnums, static_argnames=static_argnames
    )
    return _Search(function, list(batches), budget, on, load_config(start), seconds, progress).run()


class _Search:
    """One search: the program, its batches, and the emulators compiled so far."""

    def __init__(
        self,
        function: SecureFunction,
        batches: list[Any],
        budget: ErrorBudget | None,
        network: Network,
        start: Config,
        seconds: float,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._until = time.monotonic() + seconds
        self._say = progress or (lambda _: None)
        self._say("calibrating")
        self.calibration: Calibration = function.with_config(start).calibrate(batches)
        calls = [function.traced_batch(batch) for batch in batches]
        self._traced, arrays = calls[0][0], [each for _, each in calls]
        if any(each.arguments != self._traced.arguments for each, _ in calls):
            raise InputError("the batches of a search have equal shapes: pad them")
        self._linear = advance(begin(self._traced), "linearise")
        self._batches = [self._linear.parts.values(each) for each in arrays]
        self._expected = [ir.evaluate(self._traced.module_text, each) for each in arrays]
        self._budget, self._network, self._start = budget, network, start
        self._emulators: dict[str, Emulator] = {}

    def run(self) -> SearchResult:
        """Run the search and return its result."""
        start = self._point(self._start, self._start.name, calibrated=False)
        baselines = [start, *(self._point(load_config(name), name, False) for name in BASELINES)]
        first = self._try(self._start, f"{self._start.name}, calibrated ranges")
        if first is None:
            raise ConfigError(
                f"the ranges of '{self._start.name}' do not hold what the batches show: run `ditto inspect "
                "MODEL --stage ranges --calibration FILE` and start from a configuration that does"
            )
        budget = self._budget or ErrorBudget(max=start.max_abs_error, mean=start.mean_abs_error)
        base = advance(replace(self._linear, config=first[1].config), "assign")
        chosen = groups(base.module, self._start)
        self._say("sensitivity")
        sensitivity = self._sensitivity(chosen, base)
        kept, best, path = self._descend(chosen, base, first, budget)
        if budget.excess(best[0]) > 0:
            raise ConfigError(
                "no configuration was found within the budget: the least error is "
                f"{best[0].max_abs_error:.3g} at most, {best[0].mean_abs_error:.3g} in the mean, cosine "
                f"{best[0].cosine:.6f}; raise the budget, or start from a finer configuration"
            )
        return SearchResult(
            config=best[1].config,
            moves=tuple(kept),
            start=start,
            point=best[0],
            path=tuple(path),
            baselines=tuple(each for each in baselines if each is not None),
            sensitivity=sensitivity,
            network=self._network,
        )

    def _descend(
        self, chosen: list[Group], base: Work, first: tuple[Point, Lowered], budget: ErrorBudget
    ) -> tuple[list[tuple[Move, str]], tuple[Point, Lowered], list[Point]]:
        """Try every move alone, and then those that help together.

        Returns the moves that were kept with their reasons, the best point with its compiled call, and the
        points on the way to it.
        """
        alone: list[tuple[tuple[float, ...], Move]] = []
        options = [
            move for group in chosen for move in moves(group, self._start, base.module, self.calibration)
        ]
        for number, move in enumerate(options):
            if time.monotonic() > self._until:
                break
            self._say(f"{number + 1} of {len(options)} changes: {move.group}")
            within = math.inf if budget.excess(first[0]) else first[0].seconds
            done = self._try(self._with([move]), str(move.group), within=within)
            if done is None or not _better(done[0], first[0], budget):
                continue
            saved = first[0].seconds - done[0].seconds
            added = max(done[0].mean_abs_error - first[0].mean_abs_error, 0.0)
            # Within the budget the largest saving per error goes first. Beyond it the least error does.
            order = (
                (budget.excess(done[0]), 0.0) if budget.excess(first[0]) else (0.0, -saved / (added + 1e-9))
            )
            alone.append((order, move))
        kept: list[tuple[Move, str]] = []
        best, path = first, [first[0]]
        for _, move in sorted(alone, key=lambda each: each[0]):
            if time.monotonic() > self._until:
                break
            others = [each for each, _ in kept if each.key != move.key]
            done = self._try(self._with([*others, move]), str(move.group))
            if done is not None and _better(done[0], best[0], budget):
                kept = [(each, why) for each, why in kept if each.key != move.key]
                kept.append((move, _reason(best[0], done[0])))
                best = done
                path.append(done[0])
                self._say(f"kept {move.group}: {done[0].megabytes:.2f} MB a party")
        return kept, best, path

    def _with(self, chosen: Sequence[Move]) -> Config:
        """Return the start with moves before its rules, and with later moves before earlier ones."""
        rules = tuple(replace(move.rule, optional=True) for move in reversed(chosen))
        return replace(self._start, rules=(*rules, *self._start.rules))

    def _point(self, config: Config, name: str, calibrated: bool = True) -> Any:
        done = self._try(config, name, calibrated)
        return None if done is None else done[0]

    def _try(
        self, config: Config, name: str, calibrated: bool = True, within: float = math.inf
    ) -> tuple[Point, Lowered] | None:
        """Return cost and error of a configuration, and the compiled call.

        Returns None if the compiler or the calibration refuses it, or if it takes more seconds than `within`.
        """
        calibration = self.calibration if calibrated else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RangeWarning)
                lowered = compile_program(self._linear, config, name, calibration=calibration)
        except (DittoError, ValueError):  # a kernel raises ValueError if no plan of its own serves
            return None
        report = lowered.cost_analysis()
        if report.rounds is None:
            raise InputError("the program has steps on SPU, whose cost is not known before a run")
        # The mean counts, not the busiest party: details of a plan change how evenly dealers are spread.
        sent = sum(report.bytes_sent_per_party) / 3
        seconds = predicted_seconds(self._network, 0.0, [round(sent)], report.rounds)
        if seconds > within:
            return None
        errors = kernel_errors(lowered.plan, self.calibration)
        outputs = self._emulate(lowered.config, errors)
        found = [accuracy(y, x) for y, x in zip(outputs, self._expected, strict=True)]
        metric = None
        if self._budget is not None and self._budget.metric is not None:
            metric = max(self._budget.metric(y, x) for y, x in zip(outputs, self._expected, strict=True))
        point = Point(
            name=name,
            seconds=seconds,
            megabytes=sent / 1e6,
            rounds=report.rounds,
            max_abs_error=max(each["max_abs_error"] for each in found),
            mean_abs_error=float(np.mean([each["mean_abs_error"] for each in found])),
            cosine=min(each["cosine"] for each in found),
            metric=metric,
        )
        return point, lowered

    def _emulate(self, config: Config, errors: dict[tuple[str, str], float]) -> list[list[NDArray[Any]]]:
        module = advance(replace(self._linear, config=config), "replace_functions").module
        emulator = self._emulator(module)
        return [emulator.run(module, errors, values) for values in self._batches]

    def _emulator(self, module: ir.Module) -> Emulator:
        """Return the emulator for a module.

        Modules with replaced functions (Quad) have another one, because their composites mean something else.
        """
        meaning = ",".join(
            ir.symbol(op, "decomposition") for op in ir.ops(ir.body(ir.main(module))) if ir.composite_name(op)
        )
        if meaning not in self._emulators:
            self._emulators[meaning] = Emulator(module)
        return self._emulators[meaning]

    def _sensitivity(self, chosen: Sequence[Group], base: Work) -> tuple[Sensitivity, ...]:
        """Return the mean error that rounding one group's results alone causes, by bits more or fewer."""
        emulator, module = self._emulator(advance(base, "replace_functions").module), base.module
        rows = []
        for group in chosen:
            errors = {}
            for bits in BITS:
                outputs = [emulator.rounded(module, group.places, bits, values) for values in self._batches]
                found = [accuracy(y, x) for y, x in zip(outputs, self._expected, strict=True)]
                errors[bits] = float(np.mean([each["mean_abs_error"] for each in found]))
            op = ir.ops(ir.body(ir.main(module)))[group.places[0]]
            rows.append(Sensitivity(group.op, group.path, str(decided(op).out), errors))
        return tuple(rows)


def _better(point: Point, than: Point, budget: ErrorBudget) -> bool:
    """Return whether a point is better than another one.

    Beyond the budget the nearer point is better. Within it the cheaper one is better, or, at equal cost, the
    one with less error.
    """
    if budget.excess(than) > 0:
        return budget.excess(point) < budget.excess(than)
    if budget.excess(point) > 0:
        return False
    if abs(point.seconds - than.seconds) > 1e-9:
        return point.seconds < than.seconds
    return point.mean_abs_error < 0.99 * than.mean_abs_error


def _reason(before: Point, after: Point) -> str:
    saved = 1e3 * (before.megabytes - after.megabytes)
    return f"{saved:+.0f} kB saved, mean error {before.mean_abs_error:.3g} -> {after.mean_abs_error:.3g}"
