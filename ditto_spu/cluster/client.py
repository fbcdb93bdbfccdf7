"""The client of a cluster: shares its inputs, sends each party its part, joins the outputs."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditto_kernels.link import LinkError, Traffic
from ditto_kernels.ring import Fxp
from ditto_kernels.rss import PARTIES, Rss
from ditto_spu.api import Call, Result, SecureFunction
from ditto_spu.cluster.agreement import difference, facts
from ditto_spu.cluster.channel import Channel
from ditto_spu.cluster.config import Cluster, load_cluster
from ditto_spu.cluster.connect import context, dial
from ditto_spu.cluster.plan_codec import encode_plan
from ditto_spu.cluster.wire import Message, Named
from ditto_spu.errors import ClusterError, InputError, PartyError
from ditto_spu.executor import StepRecord
from ditto_spu.plan import Plan
from ditto_spu.precompute import client_key, random_bytes
from ditto_spu.simulate import cost_report, join_output, share_input

log = logging.getLogger("ditto_spu.cluster")


def connect(cluster: str | Path, client: str | None = None) -> ClusterClient:
    """A client of the cluster in that file. client: its name there; may be left out if there is but one."""
    loaded = load_cluster(cluster)
    if client is None and len(loaded.clients) == 1:
        client = loaded.clients[0]
    if client not in loaded.clients:
        raise InputError(f"client {client!r} is none of the cluster's: {', '.join(loaded.clients) or 'none'}")
    return ClusterClient(loaded, client)


class ClusterClient:
    """Runs secure functions at the parties of a cluster. One request at a time; connects when first needed.

    Security: inputs leave this process as shares alone, to each party its own part. Each party's certificate
    is verified and pinned, and shares move only after all three parties agree on plan and software. Outputs
    are joined here from freshly masked shares.
    """

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._cluster = cluster
        self._client = client
        self._facts = facts(cluster)
        self._tls = context(cluster, client, server=False)
        self._channels: list[Channel] = []
        self._pool = ThreadPoolExecutor(PARTIES)
        self._plans: set[str] = set()
        self._uploaded: dict[str, list[Any]] = {}  # name -> the very values, which keeps them alive
        self._moved = False
        if self._tls is None:
            log.warning("plaintext", extra={"facts": {"warning": "tls = false: nobody is authenticated"}})

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster. Uploaded weights stay with the parties."""
        self._leave()
        self._pool.shutdown(wait=False)

    def upload(
        self, function: SecureFunction, *args: Any, name: str, users: Sequence[str] = (), **kwargs: Any
    ) -> None:
        """Share the arguments that `function.hold` was given, once, under a name.

        They serve the plan that this very call compiles to and no other, so that a user cannot run another
        function on them; `users` are the clients, beside this one, that may run it and get its outputs.
        """
        call = function.call(*args, **kwargs)
        if not call.held:
            raise InputError("the function holds no arguments to upload: give them by `hold`")
        self._once_more(lambda: self._upload(call, name, users))

    def run(self, function: SecureFunction, *args: Any, weights: str | None = None, **kwargs: Any) -> Result:
        """Outputs and cost report of one request.

        weights: the name under which held arguments were uploaded; the function may hold them as
        jax.ShapeDtypeStructs then. Otherwise arguments that the function holds are uploaded at the first
        request for the plan, and used again by later ones. ClusterError if a party refuses, PartyError if the
        request fails; the next request opens a new session.
        """
        call = function.call(*args, **kwargs)
        outputs, report = self._once_more(lambda: self._run(call, weights))
        report = replace(report, hoisted=call.lowered.program.hoisted)
        return Result(jax.tree_util.tree_unflatten(call.lowered.traced.out_tree, outputs), report)

    def _once_more(self, action: Callable[[], Any]) -> Any:
        """Once again in a new session, if an old one turns out to have ended before any share moved."""
        old = bool(self._channels)
        try:
            return self._session(action)
        except PartyError as error:
            if not old or self._moved:
                raise
            log.warning("session lost", extra={"facts": {"reason": str(error), "retries": 1}})
            return self._session(action)

    def _session(self, action: Callable[[], Any]) -> Any:
        self._moved = False
        if not self._channels:
            self._open()
        try:
            return action()
        except ClusterError:
            raise  # refused: the session goes on
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels = []
        self._plans.clear()
        self._uploaded.clear()

    def _open(self) -> None:
        session = secrets.token_hex(16)
        hello = {"name": self._client, "session": session, "facts": self._facts}
        opened: dict[int, Channel] = {}

        def open_one(rank: int) -> Message:
            opened[rank] = dial(self._cluster, rank, self._tls)
            opened[rank].send("hello", hello)
            # The parties connect among themselves within their own connect timeout.
            return opened[rank].receive(3 * self._cluster.timeouts.connect)

        try:
            for rank, answer in self._each(open_one, lambda: list(opened.values())).items():
                _expect(rank, answer, "welcome")
                differs = difference(self._facts, answer.facts.get("facts"))
                if differs is not None:
                    raise ClusterError(f"this client and party {rank} differ in {differs}")
        except BaseException:
            for channel in opened.values():
                channel.close()
            raise
        self._channels = [opened[rank] for rank in range(PARTIES)]

    def _each(
        self, action: Callable[[int], Message], open_: Callable[[], Any] | None = None
    ) -> dict[int, Message]:
        """Do something with all three parties at once. The first failure closes all connections."""

        def one(rank: int) -> Message:
            try:
                answer = action(rank)
            except LinkError as error:
                raise PartyError(str(error)) from None
            if answer.kind == "error" and answer.facts.get("over"):
                raise PartyError(f"party {rank}: {answer.facts.get('reason')}")
            return answer

        tasks = [self._pool.submit(one, rank) for rank in range(PARTIES)]
        done, running = wait(tasks, return_when=FIRST_EXCEPTION)
        failures = [error for task in done if (error := task.exception()) is not None]
        if failures:
            for channel in (open_ or (lambda: self._channels))():
                channel.close()
            wait(running)
            raise failures[0]
        return {rank: task.result() for rank, task in enumerate(tasks)}

    def _ask(self, kind: str, facts_: Mapping[str, Any], tensors: Sequence[Named], answer: str) -> None:
        """The same message to all three, and the answer they should give. A refusal is a ClusterError."""

        def ask(rank: int) -> Message:
            self._channels[rank].send(kind, facts_, tensors)
            return self._channels[rank].receive(self._cluster.timeouts.request)

        for rank, message in self._each(ask).items():
            _expect(rank, message, answer)

    def _register(self, plan: Plan) -> None:
        hash_ = plan.hash()
        if hash_ in self._plans:
            return
        self._ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], "planned")
        self._plans.add(hash_)

    def _share(self, call: Call, places: Sequence[int], answer: str) -> dict[int, Message]:
        """Send shares of the inputs at these places, to each party its own, and wait for what it answers."""
        plan, source = call.lowered.plan, random_bytes(client_key(None))
        shared = [share_input(plan, plan.inputs[place], call.values[place], source) for place in places]
        self._moved = True

        def send(rank: int) -> Message:
            for place, parts in zip(places, shared, strict=True):
                part = parts[rank]
                tensors = (
                    [("mine", part.mine), ("next", part.next)]
                    if isinstance(part, Rss)
                    else [("public", np.asarray(part, plan.vars[plan.inputs[place].var].dtype))]
                )
                self._channels[rank].send("shares", {"place": place}, tensors)
            return self._channels[rank].receive(self._cluster.timeouts.request)

        messages = self._each(send)
        for rank, message in messages.items():
            _expect(rank, message, answer)
        return messages

    def _upload(self, call: Call, name: str, users: Sequence[str]) -> None:
        plan = call.lowered.plan
        self._register(plan)
        asked = {
            "name": name,
            "plan": plan.hash(),
            "places": list(call.held),
            "users": list(users),
            "token": secrets.token_hex(16),
        }
        self._ask("hold", asked, (), "ready")
        self._share(call, call.held, "held")

    def _run(self, call: Call, weights: str | None) -> tuple[list[Any], Any]:
        plan = call.lowered.plan
        self._register(plan)
        if weights is None and call.held:
            weights = f"{self._client}/{plan.hash()}"
            values = [call.values[place] for place in call.held]
            before = self._uploaded.get(weights, [])
            if len(before) != len(values) or any(a is not b for a, b in zip(before, values, strict=True)):
                self._upload(call, weights, ())
                self._uploaded[weights] = values
        places = [place for place in range(len(plan.inputs)) if weights is None or place not in call.held]
        started = time.perf_counter()
        self._ask("run", {"plan": plan.hash(), "weights": weights, "places": places}, (), "ready")
        answers = self._share(call, places, "done")
        seconds = time.perf_counter() - started
        parts = [_outputs(plan, rank, answers[rank]) for rank in range(PARTIES)]
        outputs = []
        for place, var in enumerate(plan.outputs):
            each = [part[place] for part in parts]
            if plan.vars[var].fxp is None and any(not np.array_equal(each[0], other) for other in each[1:]):
                raise PartyError(f"the parties disagree on public output {place}")
            outputs.append(join_output(plan.vars[var], each))
        records = [_records(rank, answers[rank]) for rank in range(PARTIES)]
        return outputs, cost_report(plan, records, {}, seconds, None)


def _expect(rank: int, message: Message, kind: str) -> None:
    if message.kind == "error":
        raise ClusterError(f"party {rank}: {message.facts.get('reason')}")
    if message.kind != kind:
        raise PartyError(f"party {rank} answered '{message.kind}' in place of '{kind}'")


def _outputs(plan: Plan, rank: int, message: Message) -> list[Any]:
    """One party's parts of the outputs, as the plan declares them."""
    arrays = [array for _, array in message.tensors]
    infos = [plan.vars[var] for var in plan.outputs]
    wanted = [(info.shape, _dtype(info.fxp, info.dtype)) for info in infos]
    if [(array.shape, array.dtype) for array in arrays] != wanted:
        raise PartyError(f"party {rank} sent outputs that are not as the plan declares them")
    return [
        array if info.fxp is None else Rss(array, np.zeros_like(array), info.fxp)
        for array, info in zip(arrays, infos, strict=True)
    ]


def _dtype(fxp: Fxp | None, dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype) if fxp is None else fxp.dtype


def _records(rank: int, message: Message) -> list[StepRecord]:
    try:
        return [
            StepRecord(int(step), int(stage), Traffic(**traffic), float(seconds))
            for step, stage, traffic, seconds in message.facts["records"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise PartyError(f"party {rank} sent a malformed report: {error}") from None
