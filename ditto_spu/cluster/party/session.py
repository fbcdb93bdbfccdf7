"""Serves one client's session at one party: reads a request, agrees on it with the peers, and does it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import numpy as np
from jax.experimental import enable_x64

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.randomness import PairKeys, Randomness
from ditto_kernels.sharing.deal_ahead import in_phase
from ditto_kernels.values.replicated import Known, Rss
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import Message
from ditto_spu.cluster.party.client_port import ClientPort
from ditto_spu.cluster.party.dealt_material import Material, Materials, Parts, deal, member
from ditto_spu.cluster.party.metrics import Metrics
from ditto_spu.cluster.party.request_queue import Turns
from ditto_spu.cluster.party.requests import (
    Call,
    digest_of_public,
    read_call,
    read_places,
    receive_inputs,
    receive_mask_keys,
)
from ditto_spu.cluster.party.spu_process import SpuProcess, needs_spu
from ditto_spu.cluster.party.store import Store, Weights
from ditto_spu.errors import ClusterError, DittoError
from ditto_spu.plan.check import check_plan
from ditto_spu.plan.codec import decode_plan
from ditto_spu.runtime.executor import Member, StepRecord, execute, prepare

log = logging.getLogger("ditto_spu.cluster")


@dataclass(frozen=True)
class Shared:
    """Holds the objects that all sessions of a party share."""

    cluster: Cluster
    store: Store
    turns: Turns
    metrics: Metrics = field(default_factory=Metrics)


class Session:
    """Serves the requests of one client, one after another. Party 0 starts each of them for all three."""

    def __init__(
        self, shared: Shared, client: str, name: str, port: ClientPort, link: PeerLink, keys: PairKeys
    ) -> None:
        self._timeouts, self._limits = shared.cluster.timeouts, shared.cluster.limits
        self._clients = shared.cluster.clients
        self._store, self._turns, self._metrics = shared.store, shared.turns, shared.metrics
        self._client = client
        self._name = name
        self._port = port
        self._link = link
        self._keys = keys
        self._materials = Materials(self._limits.waiting_mb << 20)
        self._spu = SpuProcess(link, name, self._timeouts, self._limits.message_mb << 20)
        self._request = 0

    def serve(self) -> None:
        """Serve requests until the client leaves.

        Raises LinkError when the session cannot go on. A refused request does not end the session.
        """
        actions = {"plan": self._plan, "hold": self._hold, "ahead": self._ahead, "run": self._run}
        while True:
            message = self._port.next_request(self._timeouts.idle)
            try:
                if message.kind not in actions:
                    raise LinkError(f"a message of kind '{message.kind}' is not expected here")
                actions[message.kind](message)
            except ClusterError as error:
                self._metrics.failures.labels("refused").inc()
                self._port.channel.send("error", {"reason": str(error), "over": False})
            except Exception as error:
                self._metrics.failures.labels(self._whose(error)).inc()
                raise
            else:
                self._metrics.requests.labels(message.kind).inc()

    def close(self) -> None:
        """End the session's SPU process. The server closes the connections."""
        self._spu.close()

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
        try:
            if data is None or data.dtype != np.uint8:
                raise ClusterError("the message holds no plan")
            plan = decode_plan(data.tobytes())
            check_plan(plan, self._limits.message_mb << 20)
            prepare(plan)
            if needs_spu(plan):
                self._spu.compile(plan)
        except (ClusterError, LinkError):
            raise
        except Exception as error:  # a bad plan may cause any error, and is refused
            reason = str(error) if isinstance(error, DittoError) else f"{type(error).__name__}: {error}"
            raise ClusterError(f"the plan is refused: {reason[:1000]}") from None
        self._store.add_plan(plan)
        self._port.channel.send("planned", {"plan": plan.hash()})

    def _hold(self, message: Message) -> None:
        """Receive and keep shares of weights, which serve many requests."""
        facts = message.facts
        asked = {key: facts.get(key) for key in ("name", "plan", "places", "users", "token")}
        with self._agreeing("hold", asked) as agreed:
            plan = self._store.plan(facts.get("plan"))
            call = Call(plan, read_places(plan, facts.get("places")), 1)
            name, users, token = facts.get("name"), facts.get("users"), facts.get("token")
            if not isinstance(name, str) or not 0 < len(name) <= 64 or not isinstance(token, str):
                raise ClusterError("weights need a name of at most 64 characters, and a token")
            if not isinstance(users, list) or any(each not in self._clients for each in users):
                raise ClusterError("the users of weights are a list of clients of this cluster")
            self._store.check_owner(name, self._client)
            self._store.check_room(name, call.nbytes)
            agreed.update(call=call)
        (parts,) = receive_inputs(call, self._link.rank, self._port, self._timeouts.message)
        kept = {place: part.kept() if isinstance(part, Rss) else Known(part) for place, part in parts.items()}
        self._together("held", digest_of_public([parts]))
        self._store.add_weights(name, Weights(self._client, plan.hash(), tuple(users), token, kept))
        self._port.channel.send("held", {"name": name})

    def _ahead(self, message: Message) -> None:
        """Run the offline phase of a later request of this session, before its secret inputs exist."""
        with contextlib.ExitStack() as stack:
            with self._agreeing("ahead", _asked(message.facts)) as agreed:
                call = self._call(message.facts, ahead=True)
                self._materials.check_room()
                stack.enter_context(self._turns.admitted(call.nbytes))
                agreed.update(call=call)
            rank, timeout = self._link.rank, self._timeouts.message
            public = receive_inputs(call, rank, self._port, timeout)
            mask_keys = receive_mask_keys(call, rank, self._port, timeout)
            with self._turn(public), enable_x64():
                started = time.perf_counter()
                party = Party(rank, self._randomness(self._request))
                dealer_values, sizes = deal(call.plan, party, self._link, call.held, public, mask_keys)
                # A peer's facts follow its dealt tensors, so after this exchange all of them have arrived.
                self._link.exchange("dealt", {}, self._timeouts.request)
                dealt = self._link.dealt()
                seconds = time.perf_counter() - started
            made = Material(
                self._request,
                call.plan.hash(),
                call.token,
                tuple(public),
                dealt,
                None if dealer_values is None else tuple(dealer_values),
            )
            self._materials.add(made)
        self._done("ahead", call, seconds)
        self._port.channel.send("dealt", {"material": self._request, "sizes": sizes, "seconds": seconds})

    def _run(self, message: Message) -> None:
        """Serve a run: agree, receive inputs, wait for the turn, compute, send re-randomised outputs."""
        facts = message.facts
        material: Material | None = None
        with contextlib.ExitStack() as stack:
            with self._agreeing("run", _asked(facts)) as agreed:
                call = self._call(facts, ahead=False)
                if facts.get("material") is not None:
                    material = self._materials.find(
                        facts["material"], call.plan.hash(), call.token, call.count
                    )
                stack.enter_context(self._turns.admitted(call.nbytes))
                agreed.update(call=call)
            if material is not None:
                self._materials.spend(material)
            members = receive_inputs(call, self._link.rank, self._port, self._timeouts.message)
            if needs_spu(call.plan):
                self._spu.compile(call.plan)  # needed if another session has sent the plan
            with self._turn(members):
                log.info("computing", extra={"facts": {"session": self._name, "request": self._request}})
                started = time.perf_counter()
                outputs, records = self._execute(call, members, material)
                self._link.finish()
                seconds = time.perf_counter() - started
        self._done("run", call, seconds)
        tensors = [
            (f"{number}.{place}", np.asarray(value.mine if isinstance(value, Rss) else value))
            for number, values in enumerate(outputs)
            for place, value in enumerate(values)
        ]
        rows = [[each.step, each.stage, asdict(each.traffic), each.seconds] for each in records]
        self._port.channel.send("done", {"seconds": seconds, "records": rows}, tensors)

    def _execute(
        self, call: Call, members: Sequence[Parts], material: Material | None
    ) -> tuple[list[list[Any]], list[StepRecord]]:
        party = Party(
            self._link.rank, self._randomness(self._request if material is None else material.request)
        )
        if material is not None:
            self._link.supply(material.dealt)
            party = in_phase(party, "online")
        runs = []
        for number, parts in enumerate(members):
            given = call.held | parts | ({} if material is None else material.public[number])
            offline = None if material is None else material.dealer_values
            dealer_values = None if offline is None else offline[number]
            inputs = [given[place] for place in range(len(call.plan.inputs))]
            runs.append(Member(member(party, number), inputs, dealer_values))
        with enable_x64():
            return execute(call.plan, runs, self._link, self._spu)

    def _randomness(self, request: int) -> Randomness:
        """Return the random streams of a request of this session.

        No other request draws them, except a run that spends the material of this request.
        """
        return Randomness(self._keys, self._name, str(request))

    def _call(self, facts: Mapping[str, Any], ahead: bool) -> Call:
        return read_call(facts, self._store, self._client, self._limits.batch, ahead)

    def _done(self, kind: str, call: Call, seconds: float) -> None:
        sent = self._link.traffic()
        bytes_sent = sent.bytes_sent + sent.offline_bytes
        self._metrics.seconds.labels(kind).observe(seconds)
        self._metrics.bytes_sent.inc(bytes_sent)
        what = {
            "session": self._name,
            "client": self._client,
            "request": self._request,
            "plan": call.plan.hash(),
            "inputs": call.count,
            "seconds": round(seconds, 3),
            "bytes_sent": bytes_sent,
        }
        log.info("request" if kind == "run" else kind, extra={"facts": what})

    @contextlib.contextmanager
    def _agreeing(self, what: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Compare the request and its checks with the other parties. If one party refuses, all refuse.

        The body of the context checks the request, and puts its `Call` into the dictionary as "call".
        """
        self._request += 1
        self._link.begin(self._request)
        found: dict[str, Any] = {}
        refusal = None
        try:
            yield found
        except ClusterError as error:
            refusal = str(error)
        refusal = self._port.stopping or refusal
        token = found["call"].token if "call" in found else None
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        mine = {"what": what, "asked": digest, "token": token, "refusal": refusal}
        for peer, theirs in self._link.exchange("agree", mine).items():
            if theirs.get("refusal") is not None and refusal is None:
                refusal = f"party {peer}: {str(theirs['refusal'])[:1000]}"
            elif refusal is None and theirs != mine:
                differ = next((key for key in mine if mine[key] != theirs.get(key)), "facts")
                names = {"token": "uploads of the weights", "asked": "requests"}
                _refuse(f"parties {self._link.rank} and {peer} have different {names.get(differ, differ)}")
        if refusal is not None:
            _refuse(refusal)
        self._port.channel.send("ready", {"request": self._request})

    def _together(self, what: str, public: str, timeout: float | None = None) -> None:
        """Wait until all three parties are here. Raises LinkError if their public inputs differ."""
        self._link.tell(what, {"public": public})
        self._compare(what, public, timeout)

    def _compare(self, what: str, public: str, timeout: float | None) -> None:
        for peer, theirs in self._link.learn(what, timeout).items():
            if theirs.get("public") != public:
                raise LinkError(f"parties {self._link.rank} and {peer} were given different public inputs")

    @contextlib.contextmanager
    def _turn(self, members: Sequence[Parts]) -> Iterator[None]:
        """Compute in turn: party 0 starts as many requests as may compute, and the others follow.

        Party 0 waits for a turn only once all three parties have the inputs. So a slow client keeps nobody
        else waiting.
        """
        public, timeout = digest_of_public(members), self._timeouts.request
        if self._link.rank == 0:
            self._compare("go", public, timeout)
            with self._turns.turn(timeout, lambda: self._link.failure):
                self._link.tell("go", {"public": public})
                yield
        else:
            self._together("go", public, timeout)
            with self._turns.follow():
                yield


def _asked(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a call that the parties compare."""
    return {key: facts.get(key) for key in ("plan", "weights", "places", "dealer", "count", "material")}


def _refuse(reason: str) -> NoReturn:
    raise ClusterError(reason)
