"""One client's session at one party: what is asked for, agreed with the other parties, and done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NoReturn

import numpy as np
from jax.experimental import enable_x64

from ditto_kernels.link import LinkError
from ditto_kernels.party import Party
from ditto_kernels.prg import PairKeys, Randomness
from ditto_kernels.rss import Known, Rss
from ditto_spu.cluster.channel import Channel
from ditto_spu.cluster.config import Cluster
from ditto_spu.cluster.peer_link import PeerLink
from ditto_spu.cluster.plan_check import check_plan
from ditto_spu.cluster.plan_codec import decode_plan
from ditto_spu.cluster.store import Store, Weights
from ditto_spu.cluster.wire import Message
from ditto_spu.errors import ClusterError, DittoError
from ditto_spu.executor import execute, prepare
from ditto_spu.plan import Plan

log = logging.getLogger("ditto_spu.cluster")
_PENDING = 2  # messages of a client that wait to be looked at


class ClientPort:
    """A client's messages, read by a thread of its own: a client that goes away is noticed in mid-run."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.failure: LinkError | None = None
        self._interruption: BaseException | None = None
        self._link: PeerLink | None = None
        self._queue: queue.Queue[Message | None] = queue.Queue(_PENDING)
        threading.Thread(target=self._read, daemon=True).start()

    def stops(self, link: PeerLink) -> None:
        """Fail this link when the client goes away."""
        self._link = link
        if self.failure is not None:
            link.fail(self.failure)

    def interrupt(self, failure: BaseException) -> None:
        """Stop waiting for the client: the session has failed elsewhere."""
        self._interruption = failure
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def receive(self, timeout: float) -> Message:
        try:
            message = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise LinkError(f"{self.channel.peer} sent nothing for {timeout:g} s") from None
        if message is None:
            raise self.failure or LinkError(str(self._interruption))
        return message

    def close(self) -> None:
        self.channel.close()
        with contextlib.suppress(queue.Empty):  # free a reader that waits for room
            while True:
                self._queue.get_nowait()

    def _read(self) -> None:
        try:
            while True:
                self._queue.put(self.channel.receive(None))
        except Exception as error:  # also what a malformed message might cause
            self.failure = error if isinstance(error, LinkError) else LinkError(f"malformed message: {error}")
            if self._link is not None:
                self._link.fail(self.failure)
            self._queue.put(None)


class Session:
    """The requests of one client, one after another.

    turns: how many requests this party computes at a time; party 0 decides when one starts, for all three.
    """

    def __init__(
        self,
        cluster: Cluster,
        client: str,
        name: str,
        port: ClientPort,
        link: PeerLink,
        keys: PairKeys,
        store: Store,
        turns: threading.Semaphore,
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._name = name
        self._port = port
        self._link = link
        self._keys = keys
        self._store = store
        self._turns = turns
        self._request = 0

    def serve(self) -> None:
        """Until the client leaves. LinkError when the session cannot go on; refusals alone do not end it."""
        actions = {"plan": self._plan, "hold": self._hold, "run": self._run}
        while True:
            message = self._port.receive(self._cluster.timeouts.idle)
            if message.kind not in actions:
                raise LinkError(f"a message of kind '{message.kind}' is not expected here")
            try:
                actions[message.kind](message)
            except ClusterError as error:
                self._port.channel.send("error", {"reason": str(error), "over": False})

    def _plan(self, message: Message) -> None:
        """Check and keep a plan."""
        data = dict(message.tensors).get("plan")
        try:
            if data is None or data.dtype != np.uint8:
                raise ClusterError("the message holds no plan")
            plan = decode_plan(data.tobytes())
            check_plan(plan, self._cluster.limits.message_mb << 20)
            prepare(plan)
        except ClusterError:
            raise
        except Exception as error:  # whatever a plan may cause, it is refused
            reason = str(error) if isinstance(error, DittoError) else f"{type(error).__name__}: {error}"
            raise ClusterError(f"the plan is refused: {reason[:1000]}") from None
        self._store.add_plan(plan)
        self._port.channel.send("planned", {"plan": plan.hash()})

    def _hold(self, message: Message) -> None:
        """Take shares that serve many requests."""
        facts = message.facts
        asked = {key: facts.get(key) for key in ("name", "plan", "places", "users", "token")}
        with self._agreeing("hold", asked) as agreed:
            plan = self._store.plan(facts.get("plan"))
            places = _places(plan, facts.get("places"))
            name, users, token = facts.get("name"), facts.get("users"), facts.get("token")
            if not isinstance(name, str) or not 0 < len(name) <= 64 or not isinstance(token, str):
                raise ClusterError("weights need a name of at most 64 characters, and a token")
            if not isinstance(users, list) or any(each not in self._cluster.clients for each in users):
                raise ClusterError("the users of weights are a list of clients of this cluster")
            self._store.check_owner(name, self._client)
            agreed.update(plan=plan, places=places)
        parts = self._inputs(plan, places)
        kept = {place: part.kept() if isinstance(part, Rss) else Known(part) for place, part in parts.items()}
        self._together("held", _public(parts))
        self._store.add_weights(name, Weights(self._client, plan.hash(), tuple(users), token, kept))
        self._port.channel.send("held", {"name": name})

    def _run(self, message: Message) -> None:
        """One request: agree, take inputs, wait for the turn, compute, hand out masked shares."""
        facts = message.facts
        asked = {key: facts.get(key) for key in ("plan", "weights", "places")}
        with self._agreeing("run", asked) as agreed:
            plan = self._store.plan(facts.get("plan"))
            places, parts = _places(plan, facts.get("places")), {}
            if facts.get("weights") is not None:
                weights = self._store.weights(facts["weights"], self._client, plan.hash())
                parts, agreed["token"] = dict(weights.parts), weights.token
            if sorted((*places, *parts)) != list(range(len(plan.inputs))):
                raise ClusterError("weights and inputs together are not the plan's inputs, each once")
            agreed.update(plan=plan, places=places)
        parts |= self._inputs(plan, places)
        with self._turn():
            self._together("go", _public(parts), self._cluster.timeouts.request)
            log.info("computing", extra={"facts": {"session": self._name, "request": self._request}})
            started = time.perf_counter()
            mine = Party(self._link.rank, Randomness(self._keys, self._name, str(self._request)))
            with enable_x64():
                outputs, records = execute(
                    plan, mine, self._link, [parts[place] for place in range(len(plan.inputs))]
                )
            self._link.finish()
            seconds = time.perf_counter() - started
        sent = self._link.traffic()
        log.info(
            "request",
            extra={
                "facts": {
                    "session": self._name,
                    "client": self._client,
                    "request": self._request,
                    "plan": plan.hash(),
                    "seconds": round(seconds, 3),
                    "bytes_sent": sent.bytes_sent + sent.offline_bytes,
                }
            },
        )
        tensors = [
            (str(place), np.asarray(value.mine if isinstance(value, Rss) else value))
            for place, value in enumerate(outputs)
        ]
        rows = [[each.step, each.stage, asdict(each.traffic), each.seconds] for each in records]
        self._port.channel.send("done", {"seconds": seconds, "records": rows}, tensors)

    @contextlib.contextmanager
    def _agreeing(self, what: str, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Compare with the other parties what is asked and found: a refusal of one is that of all."""
        self._request += 1
        self._link.begin(self._request)
        found: dict[str, Any] = {}
        refusal = None
        try:
            yield found
        except ClusterError as error:
            refusal = str(error)
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        mine = {"what": what, "asked": digest, "token": found.get("token"), "refusal": refusal}
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

    def _inputs(self, plan: Plan, places: tuple[int, ...]) -> dict[int, Any]:
        """This party's parts of the inputs at these places, in their order."""
        parts: dict[int, Any] = {}
        for place in places:
            message = self._port.receive(self._cluster.timeouts.message)
            if message.kind != "shares" or message.facts.get("place") != place:
                raise LinkError(f"in place of input {place} the client sent '{message.kind}'")
            info = plan.vars[plan.inputs[place].var]
            dtype = np.dtype(info.dtype) if info.fxp is None else info.fxp.dtype
            arrays = [array for _, array in message.tensors]
            wanted = [(info.shape, dtype)] * (1 if info.fxp is None else 2)
            if [(array.shape, array.dtype) for array in arrays] != wanted:
                raise LinkError(f"input {place} is not as the plan declares it ({info})")
            parts[place] = arrays[0] if info.fxp is None else Rss(arrays[0], arrays[1], info.fxp)
        return parts

    def _together(self, what: str, public: str, timeout: float | None = None) -> None:
        """Go on when all three are here, and were given the same public inputs."""
        for peer, theirs in self._link.exchange(what, {"public": public}, timeout).items():
            if theirs.get("public") != public:
                raise LinkError(f"parties {self._link.rank} and {peer} were given different public inputs")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Party 0 lets as many requests compute as its semaphore allows; the others follow its start."""
        if self._link.rank != 0:
            yield
            return
        deadline = time.monotonic() + self._cluster.timeouts.request
        while not self._turns.acquire(timeout=0.1):
            if self._link.failure is not None:
                raise LinkError(str(self._link.failure))
            if time.monotonic() > deadline:
                raise LinkError(f"the request waited {self._cluster.timeouts.request:g} s for its turn")
        try:
            yield
        finally:
            self._turns.release()


def _refuse(reason: str) -> NoReturn:
    raise ClusterError(reason)


def _places(plan: Plan, places: Any) -> tuple[int, ...]:
    if not isinstance(places, list) or any(type(each) is not int for each in places):
        raise ClusterError("the places of inputs are a list of numbers")
    if len(set(places)) != len(places) or not set(places) <= set(range(len(plan.inputs))):
        raise ClusterError("the places of inputs are not distinct inputs of the plan")
    return tuple(places)


def _public(parts: Mapping[int, Any]) -> str:
    digest = hashlib.sha256()
    for place, part in sorted(parts.items()):
        if not isinstance(part, Rss):
            digest.update(f"{place}:".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
