"""Implements a cluster's client, which shares its inputs, sends each party its part, and joins outputs."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ditto_kernels.protocol.randomness import KEY_BYTES
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.api import Call, Result, SecureFunction
from ditto_spu.cluster.client.answers import join, material_number, records, sizes, spu_costs, times
from ditto_spu.cluster.client.calls import call_of, calls_of, returned
from ditto_spu.cluster.client.material import ClusterMaterial
from ditto_spu.cluster.client.party_connections import Parties, Upload
from ditto_spu.cluster.client.uploads import messages, split, unheld
from ditto_spu.cluster.client.weights import HeldWeights, full_name, listed
from ditto_spu.cluster.net.cluster_file import Cluster, load_cluster
from ditto_spu.errors import ClusterError, InputError, PartyError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.precompute import client_key, random_bytes
from ditto_spu.runtime.run_report import cost_report

log = logging.getLogger("ditto_spu.cluster")


@dataclass(frozen=True)
class BatchResult:
    """Holds the outputs of each call in a batch, and the cost report of the whole batch."""

    outputs: list[Any]
    report: CostReport


def connect(cluster: str | Path, client: str | None = None) -> ClusterClient:
    """Return a client of the cluster that a cluster file describes.

    `client` is the client's name in the file. It may be left out if the file has only one. Raises InputError
    if it is left out otherwise, or if the file has no client of that name.
    """
    loaded = load_cluster(cluster)
    names = ", ".join(loaded.clients) or "none"
    if client is None:
        if len(loaded.clients) != 1:
            raise InputError(f"say which client this is, by `client` or --client; the cluster has {names}")
        client = loaded.clients[0]
    if client not in loaded.clients:
        raise InputError(f"client '{client}' is none of the cluster's: {names}")
    return ClusterClient(loaded, client)


class ClusterClient:
    """Runs secure functions at the parties of a cluster, one request at a time. Connects when first needed.

    Security: inputs leave this process only as shares, and each party gets only its own part. Each party's
    certificate is verified and pinned. Shares move only after all three parties agree on plan and software.
    Outputs are joined here from freshly re-randomised shares.
    """

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._client = client
        self._batch, self._network = cluster.limits.batch, cluster.network
        self._parties = Parties(cluster, client)
        self._plans: set[str] = set()
        # By plan, the name and the arrays: the same objects, which keeps them alive.
        self._uploaded: dict[str, tuple[str, list[Any]]] = {}
        self._dealer = 0
        self._moved = self._closed = False
        if not cluster.tls:
            log.warning("plaintext", extra={"facts": {"warning": "tls = false: nobody is authenticated"}})

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster. Weights that were uploaded under a name stay with the parties."""
        self._leave()
        self._parties.close()
        self._closed = True

    def upload(
        self,
        function: SecureFunction,
        *args: Any,
        name: str,
        users: Sequence[str] = (),
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        """Upload shares of the function's held arguments once, under a name of this client.

        They serve only the one plan that this call compiles to. Other clients may use them only if `users`
        names them. Only the shapes of the other arguments matter. They stay until `drop`, or until the
        parties end.

        name: up to 64 letters, digits, '.', '_' and '-'. Others name them with this client: "alice/model".
        replace: whether they take the place of earlier weights of this name. Requests that run meanwhile use
            the old ones or the new ones.

        Raises ClusterError if a party refuses, or if there are weights of this name and `replace` is False.
        Raises InputError if the function has no held arguments.
        """
        call = call_of(function, args, kwargs, self._network)
        if not call.held:
            raise InputError("the function holds no arguments: upload(function.hold(params=params), ...)")
        self._once_more(lambda: self._upload(call, name, users, replace, lasting=True))

    def weights(self) -> list[HeldWeights]:
        """Return the weights at the parties that this client owns or may use, by name."""
        return self._once_more(lambda: listed(self._parties.ask("list", {}, (), "listed")))

    def drop(self, name: str) -> None:
        """Have the parties forget weights of this client.

        Raises ClusterError if a party holds none of that name.
        """
        asked = {"name": full_name(self._client, name)}
        self._once_more(lambda: self._parties.ask("drop", asked, (), "dropped"))

    def run(
        self,
        function: SecureFunction,
        *args: Any,
        weights: str | None = None,
        material: ClusterMaterial | None = None,
        **kwargs: Any,
    ) -> Result:
        """Run one request, and return its outputs and cost report.

        weights: the name under which held arguments were uploaded: "alice/model" for the upload "model" of
            alice, or "model" for this client's own. The function may then hold them as
            jax.ShapeDtypeStructs. Without a name, held arguments are uploaded at the first request for the
            plan. Later requests of this session use them again.
        material: the result of `precompute`. Without it, a function with masked shares has its material dealt
            within the request.

        Raises ClusterError if a party refuses, RangeError if a value leaves its range, at the owner or at the
        parties (docs/security.md), and PartyError if the request fails. After a PartyError the next request
        opens a new session.
        """
        call = call_of(function, args, kwargs, self._network)
        outputs, report = self._once_more(lambda: self._run([call], weights, material))
        return Result(returned(call, outputs[0]), replace(report, hoisted=call.lowered.program.hoisted))

    def run_many(
        self,
        function: SecureFunction,
        inputs: Sequence[Any],
        *,
        weights: str | None = None,
        material: ClusterMaterial | None = None,
    ) -> BatchResult:
        """Run several calls of one function in one request, with the rounds of one call.

        inputs: the arguments of each call, as a tuple of positional arguments or a dictionary of named ones.
            All calls have the same shapes. There are at most as many as the cluster's limit `batch`.

        The other arguments are as for `run`.
        """
        calls = calls_of(function, inputs, self._batch, self._network)
        outputs, report = self._once_more(lambda: self._run(calls, weights, material))
        trees = [returned(call, values) for call, values in zip(calls, outputs, strict=True)]
        return BatchResult(trees, report)

    def precompute(
        self, function: SecureFunction, *args: Any, weights: str | None = None, **kwargs: Any
    ) -> ClusterMaterial:
        """Have the parties run the offline phase of one request, and return a handle to its material.

        This does not need the secret inputs: only their shapes matter. The material belongs to this session
        and serves one `run` of the same plan, weights and public arguments. It is lost when the session ends.
        """
        call = call_of(function, args, kwargs, self._network)
        return self._once_more(lambda: self._ahead([call], weights))

    def precompute_many(
        self, function: SecureFunction, inputs: Sequence[Any], *, weights: str | None = None
    ) -> ClusterMaterial:
        """Do the same as `precompute` for a `run_many` with the same number of inputs."""
        calls = calls_of(function, inputs, self._batch, self._network)
        return self._once_more(lambda: self._ahead(calls, weights))

    def _once_more(self, action: Callable[[], Any]) -> Any:
        """Do an action. Repeat it once, in a new session, if an old one had ended before any share moved."""
        old = self._parties.session is not None
        try:
            return self._session(action)
        except PartyError as error:
            if not old or self._moved:
                raise
            log.warning("session lost", extra={"facts": {"reason": str(error), "retries": 1}})
            return self._session(action)

    def _session(self, action: Callable[[], Any]) -> Any:
        self._moved = False
        if self._closed:
            raise InputError("this client is closed: connect again")
        try:
            if self._parties.session is None:
                self._parties.open()
            return action()
        except (ClusterError, InputError):
            raise  # a party or this client has refused, and the session goes on
        except PartyError as error:
            self._leave()
            raise PartyError(f"{error} (session {self._parties.latest})") from error
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._parties.leave()
        self._plans.clear()
        self._uploaded.clear()

    def _register(self, plan: Plan) -> str:
        hash_ = plan.hash()
        if hash_ not in self._plans:
            self._parties.ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], "planned")
            self._plans.add(hash_)
        return hash_

    def _upload(self, call: Call, name: str, users: Sequence[str], replace: bool, lasting: bool) -> None:
        plan = call.lowered.plan
        asked = {
            "name": full_name(self._client, name),
            "plan": self._register(plan),
            "places": list(call.held),
            "users": list(users),
            "token": secrets.token_hex(16),
            "replace": replace,
            "lasting": lasting,
        }
        self._parties.ask("hold", asked, (), "ready")
        parts = split(plan, call, call.held, random_bytes(client_key(None)))
        self._moved = True
        self._parties.upload(lambda rank: messages(parts, 0, rank), "held")

    def _weights(self, call: Call, weights: str | None) -> str | None:
        """Return the full name of the weights.

        Held arguments without a name are uploaded first. They end with the session.
        """
        if weights is not None:
            return full_name(self._client, weights)
        if not call.held:
            return None
        plan = call.lowered.plan.hash()
        values = [call.values[place] for place in call.held]
        name, before = self._uploaded.get(plan, ("", []))
        if len(before) != len(values) or any(a is not b for a, b in zip(before, values, strict=True)):
            if name:
                self._parties.ask("drop", {"name": name}, (), "dropped")
                del self._uploaded[plan]
            name = full_name(self._client, secrets.token_hex(16))
            self._upload(call, name, (), replace=False, lasting=False)
            self._uploaded[plan] = name, values
        return name

    def _ahead(self, calls: Sequence[Call], weights: str | None) -> ClusterMaterial:
        call = calls[0]
        hash_, weights = self._register(call.lowered.plan), self._weights(call, weights)
        plan, dealer = call.lowered.plan, None
        if plan.masked:  # the parties take turns as dealer
            dealer, self._dealer = self._dealer, (self._dealer + 1) % PARTIES
            plan = plan.dealt_by(dealer)
        places = unheld(call, weights, public=True)
        asked = {"plan": hash_, "weights": weights, "places": places, "dealer": dealer, "count": len(calls)}
        self._parties.ask("ahead", asked, (), "ready")
        mask_keys = [client_key(None) for _ in calls]
        packed = np.frombuffer(b"".join(mask_keys), np.uint8).reshape(len(calls), KEY_BYTES)
        parts = [split(plan, each, places, random_bytes(client_key(None))) for each in calls]

        def uploads(rank: int) -> list[Upload]:
            mine = [each for member, shared in enumerate(parts) for each in messages(shared, member, rank)]
            return [*mine, ({}, [("mask keys", packed)])] if rank == dealer else mine

        answers = self._parties.upload(uploads, "dealt")
        dealing = sizes(answers)
        number = material_number(answers)
        public = [[each.values[place] for place in places] for each in calls]
        assert self._parties.session is not None
        return ClusterMaterial(self._parties.session, number, plan, weights, public, mask_keys, dealing)

    def _run(
        self, calls: Sequence[Call], weights: str | None, material: ClusterMaterial | None
    ) -> tuple[list[Any], CostReport]:
        call, plan = calls[0], calls[0].lowered.plan
        hash_, weights = self._register(plan), self._weights(call, weights)
        if plan.masked and material is None:
            material = self._ahead(calls, weights)
        dealer = number = None
        if material is not None:
            material.spend(self._parties.session, calls, weights)
            plan, number, dealer = material.plan, material.number, material.plan.mask_dealer
        places = unheld(call, weights, public=None if material is None else False)
        asked = {"plan": hash_, "weights": weights, "places": places, "dealer": dealer, "count": len(calls)}
        started = time.perf_counter()
        self._parties.ask("run", asked | {"material": number}, (), "ready")
        keys = [client_key(None) for _ in calls] if material is None else material.mask_keys
        parts = [split(plan, each, places, random_bytes(key)) for each, key in zip(calls, keys, strict=True)]
        self._moved = True

        def uploads(rank: int) -> list[Upload]:
            if rank == dealer:  # the dealer has drawn its part of every secret input
                return []
            return [each for member, shared in enumerate(parts) for each in messages(shared, member, rank)]

        answers = self._parties.upload(uploads, "done")
        seconds = time.perf_counter() - started
        outputs = join(plan, answers, len(calls))
        rows = records(answers)
        dealing = None if material is None else material.dealing
        report = cost_report(plan, rows, spu_costs(plan, rows), seconds, dealing)
        return outputs, replace(report, times=times(answers))
