"""Precision search: the cheapest formats and approximations whose emulated error stays within a budget."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.api import ConfigSource, SecureFunction
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.compare.table import accuracy
from ditto_spu.compiler import Lowered, compile_program
from ditto_spu.emulation.emulator import Emulator
from ditto_spu.emulation.kernel_errors import kernel_errors
from ditto_spu.errors import ConfigError, DittoError, InputError, RangeWarning
from ditto_spu.network.model import Network, parse_network, predicted_seconds
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.formats.replace_functions import approximate
from ditto_spu.passes.pipeline import program_of
from ditto_spu.rules.load import load_config
from ditto_spu.rules.rule import Config
from ditto_spu.search.changes import Group, Move, groups, moves
from ditto_spu.search.result import BASELINES, Found, Point, Sensitivity

BITS = (-2, -1, 0, 1)  # of the sensitivity report


@dataclass(frozen=True)
class ErrorBudget:
    """Limits on the outputs against plaintext: absolute errors, least cosine along the last dimension.

    metric: a user's own, called with the outputs and the expected ones of a call; at most `metric_limit`.
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
        """By which factor, less one, a point exceeds the worst of the limits; 0 within the budget."""
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
    **options: Any,
) -> Found:
    """Find rules that cost least, by the kernels' derived costs on a network, within an error budget.

    fn: as for `calibrate`, with batches of equal shapes. budget: if left out, the errors of `start`. network:
    as `network.model.parse_network` reads it. seconds: tries no further change after so long.

    Start, with the ranges that calibration supplies, is changed by one value of one group of operations at a
    time. All changes that make the plan cheaper, or the error smaller at no cost, are tried again in the
    order of what they save, each on top of those kept. Errors are those of the emulation over all batches,
    disturbed by what the kernels add: see `emulator` and `kernel_errors`.
    """
    on = parse_network(network)
    function = fn if isinstance(fn, SecureFunction) else SecureFunction(fn, **options)
    return _Search(function, list(batches), budget, on, load_config(start), seconds, progress).run()


class _Search:
    """One search: the program, its batches, and what has been tried."""

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
        self._program = program_of(self._traced)
        self._linear = linearise(self._program.module, self._program.public)
        self._batches = [self._program.values(each) for each in arrays]
        self._expected = [ir.evaluate(self._traced.module_text, each) for each in arrays]
        self._budget, self._network, self._start = budget, network, start
        self._emulators: dict[str, Emulator] = {}

    def run(self) -> Found:
        start = self._point(self._start, self._start.name, calibrated=False)
        baselines = [start, *(self._point(load_config(name), name, False) for name in BASELINES)]
        first = self._try(self._start, f"{self._start.name}, calibrated ranges")
        if first is None:
            raise ConfigError(
                f"the ranges of '{self._start.name}' do not hold what the batches show: run `ditto inspect "
                "MODEL --stage ranges --calibration FILE` and start from a configuration that does"
            )
        budget = self._budget or ErrorBudget(max=start.max_abs_error, mean=start.mean_abs_error)
        base = assign(self._linear, self._program.public, first[1].config, self._program.formats)
        chosen = groups(base, self._start)
        self._say("sensitivity")
        sensitivity = self._sensitivity(chosen, base)
        kept, best, path = self._descend(chosen, base, first, budget)
        if budget.excess(best[0]) > 0:
            raise ConfigError(
                "no configuration was found within the budget: the least error is "
                f"{best[0].max_abs_error:.3g} at most, {best[0].mean_abs_error:.3g} in the mean, cosine "
                f"{best[0].cosine:.6f}; raise the budget, or start from a finer configuration"
            )
        return Found(
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
        self, chosen: list[Group], base: ir.Module, first: tuple[Point, Lowered], budget: ErrorBudget
    ) -> tuple[list[tuple[Move, str]], tuple[Point, Lowered], list[Point]]:
        """Every move alone, then those that help, together."""
        alone: list[tuple[tuple[float, ...], Move]] = []
        options = [move for group in chosen for move in moves(group, self._start, base, self.calibration)]
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
            # Within the budget the largest saving per error goes first; beyond it, what lowers the error.
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
        """Moves go before the start's rules; a later one before an earlier."""
        rules = tuple(replace(move.rule, optional=True) for move in reversed(chosen))
        return replace(self._start, rules=(*rules, *self._start.rules))

    def _point(self, config: Config, name: str, calibrated: bool = True) -> Any:
        done = self._try(config, name, calibrated)
        return None if done is None else done[0]

    def _try(
        self, config: Config, name: str, calibrated: bool = True, within: float = math.inf
    ) -> tuple[Point, Lowered] | None:
        """Cost and error; None if compiler or calibration refuse, or it costs more seconds than `within`."""
        calibration = self.calibration if calibrated else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RangeWarning)
                lowered = compile_program(self._traced, self._program, config, name, False, calibration)
        except (DittoError, ValueError):  # ValueError: a kernel that no plan serves
            return None
        report = lowered.cost_analysis()
        if report.rounds is None:
            raise InputError("the program has steps on SPU, whose cost is not known before a run")
        # The mean, not the busiest party: how well dealers level them jumps with details of a plan.
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
        module = approximate(assign(self._linear, self._program.public, config, self._program.formats))
        emulator = self._emulator(module)
        return [emulator.run(module, errors, values) for values in self._batches]

    def _emulator(self, module: ir.Module) -> Emulator:
        """Replaced functions (Quad) have another one: their composites mean something else."""
        meaning = ",".join(
            ir.symbol(op, "decomposition") for op in ir.ops(ir.body(ir.main(module))) if ir.composite_name(op)
        )
        if meaning not in self._emulators:
            self._emulators[meaning] = Emulator(module)
        return self._emulators[meaning]

    def _sensitivity(self, chosen: Sequence[Group], base: ir.Module) -> tuple[Sensitivity, ...]:
        """The mean error that rounding one group's results alone causes, at more and at fewer bits."""
        emulator = self._emulator(approximate(base))
        rows = []
        for group in chosen:
            errors = {}
            for bits in BITS:
                outputs = [emulator.rounded(base, group.places, bits, values) for values in self._batches]
                found = [accuracy(y, x) for y, x in zip(outputs, self._expected, strict=True)]
                errors[bits] = float(np.mean([each["mean_abs_error"] for each in found]))
            op = ir.ops(ir.body(ir.main(base)))[group.places[0]]
            rows.append(Sensitivity(group.op, group.path, ir.attribute(op, "ditto.format"), errors))
        return tuple(rows)


def _better(point: Point, than: Point, budget: ErrorBudget) -> bool:
    """Nearer to the budget; within it cheaper, or as cheap with less error."""
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
