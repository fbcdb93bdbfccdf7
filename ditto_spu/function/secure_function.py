"""A function that three parties compute, and the ways to call it: run, lower, precompute, compare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.calibration.calibration import Calibration, collect
from ditto_spu.compare.rows import emulated_row, measured_row, plaintext_row, puma_row
from ditto_spu.compare.table import Comparison
from ditto_spu.compiler import Lowered, compile_program
from ditto_spu.frontend.compilation_key import compilation_key
from ditto_spu.frontend.kept_arguments import Keep, abstract, is_kept, kept_places, refuse, with_formats
from ditto_spu.frontend.owner_program import Prepared
from ditto_spu.frontend.trace import Traced, check_held, trace, whole_call
from ditto_spu.function.batches import arguments, iterated
from ditto_spu.function.call import Call, Result
from ditto_spu.function.check_inputs import InputCheck
from ditto_spu.function.check_outputs import Expected
from ditto_spu.function.check_ranges import RangeCheck
from ditto_spu.function.options import ConfigSource, Options
from ditto_spu.network.model import LOOPBACK, Network, parse_network
from ditto_spu.passes.pipeline import begin
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.held_arguments import HeldArguments
from ditto_spu.runtime.material import Material
from ditto_spu.runtime.precompute import HeldShares, precompute
from ditto_spu.runtime.simulate import simulate

T = TypeVar("T")


class SecureFunction:
    """A function that runs under three-party computation.

    It is compiled once for each combination of shapes and static arguments. `secure` makes it.
    """

    def __init__(self, fn: Callable[..., Any], options: Options, held: HeldArguments | None = None) -> None:
        self._fn = fn
        self._options = options.bound_to(fn)
        self._held = HeldArguments() if held is None else held
        self._compiled: dict[Any, Lowered] = {}
        self._traces: dict[Any, Traced] = {}  # of batches
        self._checks: dict[int, RangeCheck] = {}  # by the identity of a compilation
        self._inputs: dict[int, InputCheck] = {}
        self._turn = 0
        self._prepared = Prepared()
        # A jitted function has attributes with the same names as ours, so they are not copied.
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function and return its outputs alone."""
        return self.run(*args, **kwargs).outputs

    def run(
        self,
        *args: Any,
        progress: Callable[[int, int], None] | None = None,
        material: Material | None = None,
        keep: Keep = (),
        **kwargs: Any,
    ) -> Result:
        """Run the function and return its outputs and its cost report.

        progress: is called as `progress(done, steps)` after every step.
        material: a result of `precompute` for arguments of these shapes. It serves one run.
        keep: names or places of outputs that stay in shares. Handles come back in their place. Later calls,
            also of other functions, take handles as arguments.

        Raises InputError for arguments or material that do not fit, and RangeError for a value that does not
        fit its format.
        """
        lowered, values = self._ready(args, kwargs)
        arrays = self._options.signature.leaves(*self._whole(args, kwargs))
        expected = self._check_ranges(lowered, values, arrays)
        plan = self._turned(lowered.plan, material)
        done = simulate(
            plan,
            values,
            seed=self._options.seed,
            checked=self._options.checked,
            progress=progress,
            material=material,
            held=self._shares(lowered, plan, values),
            keep=kept_places(lowered.traced.out_tree, keep),
        )
        if expected is not None:
            expected.hold(done.outputs)
        outputs = jax.tree_util.tree_unflatten(lowered.traced.out_tree, done.outputs)
        return Result(outputs, replace(done.report, hoisted=lowered.program.hoisted))

    def _check_ranges(self, lowered: Lowered, values: list[Any], arrays: list[Any]) -> Expected | None:
        """Hold the inputs against the plan's ranges, and return what plaintext returns, if that is known.

        Handles of kept outputs have no values to hold.
        """
        if self._options.guard:  # as owners do before they share for hosts
            held = lowered.program.held(self._held.arguments)
            self._check(self._inputs, InputCheck, lowered).require_all(values, held)
        shapes_alone = any(isinstance(each, jax.ShapeDtypeStruct) for each in (*values, *arrays))
        if not self._options.check or shapes_alone or any(map(is_kept, (*values, *arrays))):
            return None
        return self._check(self._checks, RangeCheck, lowered).require(values, arrays)

    def _check(self, kept: dict[int, T], make: Callable[[Lowered], T], lowered: Lowered) -> T:
        """Return the check of a compilation, which is made once."""
        check = kept.get(id(lowered))
        if check is None:
            check = make(lowered)
            if any(each is lowered for each in self._compiled.values()):  # ids of freed ones come again
                kept[id(lowered)] = check
        return check

    def precompute(self, *args: Any, folder: str | Path | None = None, **kwargs: Any) -> Material:
        """Run the offline phase of one request, before its inputs exist.

        The values of public arguments are used. Of secret arguments only the shapes matter.

        folder: a new folder for the material, which `ditto_spu.load_material` reads. Without it the material
            stays in memory.

        Raises InputError if the folder exists or cannot be written.
        """
        lowered, values = self._ready(args, kwargs)
        plan = self._turned(lowered.plan)
        made = precompute(plan, values, seed=self._options.seed, held=self._shares(lowered, plan, values))
        return made if folder is None else made.save(Path(folder))

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """Compile a call for parties elsewhere, and list its arrays.

        Held arguments may be jax.ShapeDtypeStructs.
        """
        return self.call_over(LOOPBACK, args, kwargs)

    def call_over(self, network: Network, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """Do `call` for parties with this network between them, if the function names no other one."""
        args, kwargs = tuple(args), dict(kwargs)
        lowered, values = self._ready(args, kwargs, network)
        places = lowered.program.held(self._held.arguments)
        check = self._check(self._inputs, InputCheck, lowered)
        return Call(lowered, values, places, check, self._held.arguments)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Compile for these arguments, without running."""
        return self._lower(*self._whole(args, kwargs))

    def _lower(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], elsewhere: Network | None = None
    ) -> Lowered:
        """Compile for a simulation, or for parties elsewhere, which usually have a guard.

        elsewhere: the network between these parties, which counts if the function names none.
        """
        guard = elsewhere is not None if self._options.guard is None else self._options.guard
        network = self._options.network or elsewhere or LOOPBACK
        call = compilation_key(self._options.signature, args, kwargs)
        key = None if call is None else (call, guard, network)
        if key is None or key not in self._compiled:
            traced = self._traced(args, kwargs)
            lowered = compile_program(
                begin(traced),
                self._options.config,
                self._name,
                self._options.masked,
                self._options.calibration,
                self._options.p_error,
                guard,
                network,
            )
            if key is None:
                return lowered
            self._compiled[key] = lowered
        return self._compiled[key]

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        shapes, named = abstract((args, kwargs))
        traced = trace(
            self._fn,
            shapes,
            named,
            public=self._options.public,
            owner=self._options.owner,
            held=self._held.arguments,
            **self._options.signature.options,
        )
        return with_formats(traced, self._options.signature.leaves(args, kwargs))

    @property
    def _name(self) -> str:
        return getattr(self._fn, "__name__", "function")

    def calibrate(self, batches: Iterable[Any]) -> Calibration:
        """Run the plaintext program on every batch, and record which values each operation takes.

        Functions that the configuration replaces (Quad, 2Quad, 2ReLU) are replaced here, too. A batch is the
        arguments of one call: a tuple of positional ones, or a dictionary of named ones. Raises InputError
        for anything else, and if there is no batch.
        """
        return collect(self._name, self._options.config, map(self.traced_batch, iterated(batches)))

    def traced_batch(self, batch: Any) -> tuple[Traced, list[Any]]:
        """Trace the call of one batch (see `calibrate`).

        Returns the trace, and the arrays in the order of the program's arguments.
        """
        args, kwargs = self._whole(*arguments(batch))
        values = self._options.signature.leaves(args, kwargs)
        refuse(values, "a calibration")
        key = compilation_key(self._options.signature, args, kwargs)
        traced = None if key is None else self._traces.get(key)
        if traced is None:
            traced = self._traced(args, kwargs)
            if key is not None:
                self._traces[key] = traced
        return traced, values

    def with_calibration(self, calibration: Calibration | str | Path) -> SecureFunction:
        """Return the same function with ranges that a calibration supplies and checks.

        calibration: a result of `calibrate`, or the path of its file.
        """
        return SecureFunction(self._fn, self._options.with_calibration(calibration), self._held)

    def hold(self, **arguments: Any) -> SecureFunction:
        """Return the same function with arguments that are given once and for all, such as weights.

        Later calls leave these arguments out. They are shared at the first call, and their shares serve all
        later calls. Masked shares are made once for each party whose turn it is to deal. Raises InputError
        for a name that is no parameter.
        """
        check_held(self._fn, arguments)
        held = HeldArguments({**self._held.arguments, **arguments})
        return SecureFunction(self._fn, self._options, held)

    def hold_with(self, other: SecureFunction, *names: str) -> SecureFunction:
        """Return the same function with arguments that `other` holds, under the same names.

        They are shared once for both functions. `names` chooses among them; without it, all are taken.
        """
        held = other._held.only(names) if names else other._held
        check_held(self._fn, held.arguments)
        return SecureFunction(self._fn, self._options, held)

    def _whole(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with the held ones among them. All are named then."""
        if not self._held.arguments:
            return args, kwargs
        return (), whole_call(self._fn, self._held.arguments, args, kwargs)

    def _turned(self, plan: Plan, material: Material | None = None) -> Plan:
        """Return the plan with the dealer whose turn it is.

        Only masked shares have turns. Seeded requests take none, and a request with material has the
        material's dealer.
        """
        if not plan.masked:
            return plan
        if material is not None:
            turns = (plan.dealt_by(dealer) for dealer in range(PARTIES))
            return next((each for each in turns if each.hash() == material.plan), plan)
        dealer = self._turn % PARTIES
        self._turn += self._options.seed is None
        return plan.dealt_by(dealer)

    def _ready(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], elsewhere: Network | None = None
    ) -> tuple[Lowered, list[Any]]:
        """Compile a call, and return it with the plan's inputs.

        Owners prepare their inputs for it. They prepare those from held arguments only once.
        """
        args, kwargs = self._whole(args, kwargs)
        lowered = self._lower(args, kwargs, elsewhere)
        arrays = self._options.signature.leaves(args, kwargs)
        return lowered, self._prepared.values(lowered.program, arrays, self._held.arguments)

    def _shares(self, lowered: Lowered, plan: Plan, values: list[Any]) -> HeldShares:
        """Return the shares of the held arguments for this plan."""
        places = lowered.program.held(self._held.arguments)
        return self._held.shares(plan, places, values, self._options.seed)

    def with_config(self, config: ConfigSource) -> SecureFunction:
        """Return the same function under another configuration."""
        return SecureFunction(self._fn, self._options.with_config(config), self._held)

    def with_guard(self, guard: bool) -> SecureFunction:
        """Return the same function with the guard of `secure`, or without it, wherever it runs."""
        return SecureFunction(self._fn, replace(self._options, guard=guard), self._held)

    def with_network(self, network: str | Network) -> SecureFunction:
        """Return the same function with plans for this network, as `secure` describes it."""
        known = parse_network(network) if isinstance(network, str) else network
        return SecureFunction(self._fn, replace(self._options, network=known), self._held)

    def compare(
        self,
        *args: Any,
        configs: Sequence[ConfigSource] | None = None,
        puma: bool = True,
        emulated: bool = True,
        **kwargs: Any,
    ) -> Comparison:
        """Run the function on these arguments, and compare errors and costs.

        The rows are plaintext, and for each configuration its emulation and its run under three parties. The
        last row is PUMA on stock SPU, the baseline. Every configuration runs twice, so that the measured run
        compiles nothing.

        configs: configurations to compare. Without it, that of this function.
        puma, emulated: whether to run the baseline and the emulations.

        Raises InputError if an argument is a handle.
        """
        whole, named = self._whole(args, kwargs)
        refuse(self._options.signature.leaves(whole, named), "a comparison")
        expected, row = plaintext_row(jax.jit(self._fn, **self._options.signature.options), whole, named)
        rows = [row]
        for each in (self._options.config,) if configs is None else configs:
            options = replace(self._options.with_config(each), check=False)  # errors are in the table
            function = SecureFunction(self._fn, options, self._held)
            if emulated:
                lowered = function._lower(whole, named)
                rows.append(emulated_row(lowered, function._options.signature.leaves(whole, named), expected))
            function.run(*args, **kwargs)  # this run compiles
            result = function.run(*args, **kwargs)
            rows.append(measured_row(function._options.config.name, result.report, result.outputs, expected))
        if puma:
            baseline = {"public": self._options.public, **self._options.signature.options}
            rows.append(puma_row(self._fn, whole, named, baseline, expected))
        return Comparison(tuple(rows))
