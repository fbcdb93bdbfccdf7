"""Serves one client's session at one party: reads a request, agrees on it with the peers, and does it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jax.experimental import enable_x64

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.randomness import PairKeys, Randomness
from ditto_kernels.values.replicated import Known, Rss
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import Message
from ditto_spu.cluster.party.agreement import Agreement, OtherUpload
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.dealt_material import Material, Materials, Parts, deal, drawn_inputs, member
from ditto_spu.cluster.party.input_digests import InputDigests, digests
from ditto_spu.cluster.party.kept_values import KeptValues
from ditto_spu.cluster.party.plan_checker import PlanRefused
from ditto_spu.cluster.party.requests import (
    UPLOAD_FACTS,
    Call,
    read_call,
    read_upload,
    receive_inputs,
    receive_mask_keys,
)
from ditto_spu.cluster.party.shared import Shared
from ditto_spu.cluster.party.spu_process import SpuProcess, needs_spu
from ditto_spu.cluster.party.timed_run import Done, execute, in_time
from ditto_spu.cluster.party.weights import Served, Weights
from ditto_spu.errors import ClusterError, DittoError
from ditto_spu.plan.resources import PlanLimits
from ditto_spu.runtime.executor import Member, prepare

log = logging.getLogger("ditto_spu.cluster")
_REFUSAL = 0.1  # seconds that a client owes for a refused request
_CHECK = 10  # for each second in which a refused plan was checked
_WORK = 1e10  # additions or multiplications that a request may take for each second of its timeout


class Session:
    """Serves the requests of one client, one after another. Party 0 starts each of them for all three."""

    def __init__(
        self, shared: Shared, client: str, name: str, port: ClientPort, link: PeerLink, keys: PairKeys
    ) -> None:
        self._timeouts, self._limits = shared.cluster.timeouts, shared.cluster.limits
        self._clients = shared.cluster.clients
        self._store, self._turns, self._metrics = shared.store, shared.turns, shared.metrics
        self._checker, self._delays = shared.checker, shared.delays
        self._plan_limits = PlanLimits(
            self._limits.message_mb << 20,
            self._limits.request_mb << 20,
            int(self._timeouts.request * _WORK),
        )
        self._client = client
        self._name = name
        self._port = port
        self._link = link
        self._keys = keys
        self._agreement = Agreement(client, port, link, shared.turns, self._timeouts.request)
        self._materials = Materials(client, shared.material)
        self._kept = KeptValues(client, name, shared.kept_bytes, shared.kept, self._timeouts.kept)
        self._spu = SpuProcess(link, name, self._timeouts, self._limits)

    def serve(self) -> None:
        """Serve requests until the client leaves.

        Raises LinkError when the session cannot go on. A refused request does not end the session.
        """
        actions = {
            "plan": self._plan,
            "hold": self._hold,
            "drop": self._drop,
            "list": self._list,
            "ahead": self._ahead,
            "run": self._run,
        }
        while True:
            message = self._port.next_request(self._timeouts.idle)
            self._delays.wait(self._client)
            try:
                if message.kind not in actions:
                    raise LinkError(f"a message of kind '{message.kind}' is not expected here")
                actions[message.kind](message)
            except ClusterError as error:
                self._metrics.failures.labels("refused").inc()
                self._log("request refused", kind=message.kind, reason=str(error)[:500])
                again = isinstance(error, OtherUpload)
                if not again:
                    self._delays.charge(self._client, _refusal_costs(error))
                self._port.channel.send("error", {"reason": str(error), "over": False, "again": again})
            except Exception as error:
                self._metrics.failures.labels(self._whose(error)).inc()
                raise
            else:
                self._metrics.requests.labels(message.kind).inc()

    def close(self) -> None:
        """End what belongs to the session. The server closes the connections."""
        self._spu.close()
        self._materials.clear()
        self._kept.clear()
        self._store.end_session(self._name)

    def _whose(self, error: Exception) -> str:
        if self._port.failure is not None:
            return "client"
        return (
            "peer"
            if isinstance(error, LinkError)
            else "party"
            if isinstance(error, DittoError)
            else "internal"
        )

    def _plan(self, message: Message) -> None:
        """Check and keep a plan."""
        data = dict(message.tensors).get("plan")
        if data is None or data.dtype != np.uint8:
            raise ClusterError("the message holds no plan")
        if data.nbytes > self._limits.plan_mb << 20:
            raise ClusterError(
                f"the plan is refused: it has {data.nbytes} bytes, more than `plan_mb` in [limits]; give "
                "large constants of the function as arguments"
            )
        self._delays.require(self._client)
        checked = self._checker.check(
            self._client, data.tobytes(), self._plan_limits, self._timeouts.plan, lambda: self._port.failure
        )
        try:
            prepare(checked.plan)
            if needs_spu(checked.plan):
                self._spu.compile(checked.plan)
        except LinkError:
            raise
        except Exception as error:  # SPU may refuse what the check has let pass
            reason = str(error) if isinstance(error, DittoError) else f"{type(error).__name__}: {error}"
            raise ClusterError(f"the plan is refused: {reason[:1000]}") from None
        self._store.add_plan(self._client, checked)
        self._log("plan", plan=checked.hash)
        self._port.channel.send("planned", {"plan": checked.hash})

    def _hold(self, message: Message) -> None:
        """Receive and keep shares of weights, which serve many requests.

        The name and the room are reserved when the parties agree, and checked again when the weights are
        there.
        """
        facts = message.facts
        with contextlib.ExitStack() as stack:
            with self._agreement.reached("hold", {key: facts.get(key) for key in UPLOAD_FACTS}) as agreed:
                asked = read_upload(facts, self._store, self._client, self._clients)
                room = self._store.uploading(
                    asked.name, self._client, asked.call.nbytes, asked.replace, asked.add
                )
                upload = stack.enter_context(room)
                agreed.update(call=asked.call)
            (parts,) = receive_inputs(asked.call, self._link.rank, self._port, self._timeouts.message)
            self._agreement.together("held", self._digests([parts], self._agreement.request))
            sent = {
                place: part.kept() if isinstance(part, Rss) else Known(part) for place, part in parts.items()
            }
            plan = asked.call.plan
            given = sent if asked.before is None else asked.before.completed(plan, asked.places, sent)
            served = Served(asked.call.checked, asked.token, given, asked.keep, asked.kept)
            session = None if asked.lasting else self._name
            serves = {plan.hash(): served}
            made = Weights(self._client, asked.users, asked.token, session, upload.nbytes, serves)
            self._store.add_weights(upload, made, asked.add)
        what = {"weights": asked.name, "plan": plan.hash(), "bytes": made.nbytes}
        self._log("upload", **what, users=" ".join(asked.users))
        self._port.channel.send("held", {"name": asked.name})

    def _drop(self, message: Message) -> None:
        """Forget weights of this client."""
        name = message.facts.get("name")
        self._store.drop(name, self._client)
        self._log("drop", weights=name)
        self._port.channel.send("dropped", {"name": name})

    def _list(self, message: Message) -> None:
        """List the weights that this client owns or may use."""
        listed = [
            [name, list(each.users), list(each.serves), each.nbytes, each.version]
            for name, each in sorted(self._store.usable(self._client).items())
        ]
        self._port.channel.send("listed", {"weights": listed})

    def _ahead(self, message: Message) -> None:
        """Run the offline phase of a later request of this session, before its secret inputs exist."""
        with contextlib.ExitStack() as stack:
            with self._agreement.reached("ahead", _asked(message.facts)) as agreed:
                call = self._call(message.facts, ahead=True)
                self._materials.check_room()
                stack.enter_context(self._turns.admitted(self._client, call.nbytes))
                agreed.update(call=call)
            rank, timeout = self._link.rank, self._timeouts.message
            public = receive_inputs(call, rank, self._port, timeout)
            mask_keys = receive_mask_keys(call, rank, self._port, timeout)
            number = self._agreement.request
            with (
                self._agreement.turn(self._digests(public, number)),
                in_time(self._link, self._timeouts.request),
                enable_x64(),
            ):
                started = time.perf_counter()
                randomness = self._randomness(number)
                party = Party(rank, randomness)
                dealer_values, sizes = deal(call.plan, party, self._link, call.held, public, mask_keys)
                tags = digests(drawn_inputs(call.plan, call.held, mask_keys), rank, randomness).tags
                # A peer's facts follow its dealt tensors, so after this exchange all of them have arrived.
                self._link.exchange("dealt", {}, self._timeouts.request)
                dealt = self._link.dealt()
                seconds = time.perf_counter() - started
            made = Material(
                number,
                call.plan.hash(),
                call.token,
                tuple(public),
                dealt,
                None if dealer_values is None else tuple(dealer_values),
                tags,
            )
            self._materials.add(made)
        self._done("ahead", call, seconds)
        self._port.channel.send("dealt", {"material": number, "sizes": sizes, "seconds": seconds})

    def _run(self, message: Message) -> None:
        """Serve a run: agree, receive inputs, wait for the turn, compute, send re-randomised outputs."""
        facts = message.facts
        material: Material | None = None
        with contextlib.ExitStack() as stack:
            with self._agreement.reached("run", _asked(facts)) as agreed:
                self._kept.forget(facts.get("forget") or [])
                call = self._call(facts, ahead=False)
                if facts.get("material") is not None:
                    material = self._materials.find(
                        facts["material"], call.plan.hash(), call.token, call.count
                    )
                stack.enter_context(self._turns.admitted(self._client, call.nbytes))
                if call.keep:
                    stack.enter_context(self._kept.room(call.kept_sizes))
                agreed.update(call=call)
            if material is not None:
                self._materials.spend(material)
            members = receive_inputs(call, self._link.rank, self._port, self._timeouts.message)
            if needs_spu(call.plan):
                self._spu.compile(call.plan)  # needed if another session has sent the plan
            inputs = self._digests(members, self._number(material))
            if material is not None and material.tags:  # the dealer has drawn its components
                inputs = replace(inputs, tags=material.tags)
            with self._agreement.turn(inputs):
                log.info(
                    "computing", extra={"facts": {"session": self._name, "request": self._agreement.request}}
                )
                started = time.perf_counter()
                done = self._execute(call, members, material)
                self._link.finish()
                seconds = time.perf_counter() - started
            names = self._kept.add(self._agreement.request, done.outputs, call.keep)
        self._done("run", call, seconds)
        tensors = [
            (f"{number}.{place}", np.asarray(value.mine if isinstance(value, Rss) else value))
            for number, values in enumerate(done.outputs)
            for place, value in enumerate(values)
            if place not in call.keep
        ]
        rows = [[each.step, each.stage, each.traffic._asdict(), each.seconds] for each in done.records]
        facts = {"seconds": seconds, "records": rows, "times": asdict(done.times), "kept": names}
        self._port.channel.send("done", facts, tensors)

    def _execute(self, call: Call, members: Sequence[Parts], material: Material | None) -> Done:
        party = Party(self._link.rank, self._randomness(self._number(material)))
        if material is not None:
            self._link.supply(material.dealt)
        # Two others deal within a window each, which leaves a half for everything else that waits.
        window = (self._limits.waiting_mb << 20) // 4 if material is None else None
        runs = []
        for number, parts in enumerate(members):
            given = (
                call.held | call.kept[number] | parts | ({} if material is None else material.public[number])
            )
            offline = None if material is None else material.dealer_values
            dealer_values = None if offline is None else offline[number]
            inputs = [given[place] for place in range(len(call.plan.inputs))]
            runs.append(Member(member(party, number), inputs, dealer_values))
        with enable_x64():
            return execute(call.plan, runs, self._link, self._spu, window, self._timeouts.request, call.keep)

    def _number(self, material: Material | None) -> int:
        """Return the number of the request whose random streams a run uses."""
        return self._agreement.request if material is None else material.request

    def _digests(self, members: Sequence[Parts], request: int) -> InputDigests:
        return digests(members, self._link.rank, self._randomness(request))

    def _randomness(self, request: int) -> Randomness:
        """Return the random streams of a request of this session.

        No other request draws them, except a run that spends the material of this request.
        """
        return Randomness(self._keys, self._name, str(request))

    def _call(self, facts: Mapping[str, Any], ahead: bool) -> Call:
        limits, batch = self._plan_limits, self._limits.batch
        return read_call(facts, self._store, self._kept, self._client, limits, batch, ahead)

    def _done(self, kind: str, call: Call, seconds: float) -> None:
        sent = self._link.traffic()
        bytes_sent = sent.bytes_sent + sent.offline_bytes
        self._metrics.seconds.labels(kind).observe(seconds)
        self._metrics.bytes_sent.inc(bytes_sent)
        what = {
            "request": self._agreement.request,
            "plan": call.plan.hash(),
            "weights": call.weights,
            "inputs": call.count,
            "seconds": round(seconds, 3),
            "bytes_sent": bytes_sent,
        }
        self._log("request" if kind == "run" else kind, **what)

    def _log(self, event: str, **what: Any) -> None:
        """Log an event of this client, which says who asked for what and whether it was granted."""
        log.info(event, extra={"facts": {"session": self._name, "client": self._client, **what}})


def _refusal_costs(error: ClusterError) -> float:
    """Return for how many seconds a client owes a refused request: some times what it took this party."""
    return _REFUSAL + (_CHECK * error.seconds if isinstance(error, PlanRefused) else 0.0)


def _asked(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a call that the parties compare."""
    keys = ("plan", "weights", "places", "dealer", "count", "material", "kept", "keep")
    return {key: facts.get(key) for key in keys}
