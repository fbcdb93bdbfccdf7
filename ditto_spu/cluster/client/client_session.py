"""Makes the requests of one client in a session with the three parties: plans, uploads, material, runs."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ditto_kernels.protocol.randomness import KEY_BYTES
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.api import Call
from ditto_spu.cluster.client.answers import (
    asked_for,
    join,
    material_number,
    records,
    sizes,
    spu_costs,
    times,
)
from ditto_spu.cluster.client.kept import KeptOutputs, kept_inputs
from ditto_spu.cluster.client.material import ClusterMaterial
from ditto_spu.cluster.client.party_connections import Parties, Upload
from ditto_spu.cluster.client.uploaded import Uploaded, Uploads
from ditto_spu.cluster.client.uploads import messages, split, unheld
from ditto_spu.cluster.client.weights import full_name
from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.errors import ClusterError, InputError, PartyError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.plan import Plan
from ditto_spu.runtime.precompute import client_key, random_bytes
from ditto_spu.runtime.run_report import cost_report

log = logging.getLogger("ditto_spu.cluster")


class ClientSession:
    """Makes requests, one at a time, in a session that it opens when first needed.

    `ClusterClient` is what users see of it.
    """

    def __init__(self, cluster: Cluster, client: str) -> None:
        self._client = client
        self._batch, self._network = cluster.limits.batch, cluster.network
        self._parties = Parties(cluster, client)
        self._plans: set[str] = set()
        self._uploads = Uploads()
        self._kept: KeptOutputs | None = None  # of the session that is open
        self._turn = threading.RLock()
        self._dealer = 0
        self._moved = self._closed = False
        if not cluster.tls:
            log.warning("plaintext", extra={"facts": {"warning": "tls = false: nobody is authenticated"}})

    def _close(self) -> None:
        self._leave()
        self._parties.close()
        self._closed = True

    def _once_more(self, action: Callable[[], Any]) -> Any:
        """Do an action. Repeat it once, in a new session, if an old one had ended before any share moved.

        Other threads wait for it.
        """
        with self._turn:
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
                self._kept = KeptOutputs(self._parties.open())
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
        self._uploads, self._kept = Uploads(), None

    def _register(self, plan: Plan) -> str:
        hash_ = plan.hash()
        if hash_ not in self._plans:
            self._parties.ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], "planned")
            self._plans.add(hash_)
        return hash_

    def _upload(
        self,
        call: Call,
        name: str,
        users: Sequence[str],
        replace: bool,
        lasting: bool,
        add: bool = False,
        keep: Sequence[int] = (),
    ) -> None:
        plan = call.lowered.plan
        asked = {
            "name": full_name(self._client, name),
            "plan": self._register(plan),
            "places": list(call.held),
            "users": list(users),
            "token": secrets.token_hex(16),
            "replace": replace,
            "lasting": lasting,
            "add": add,
            "keep": list(keep),
            "kept": list(call.kept) if lasting else [],  # a session's own weights have no user to bind
        }
        missing = asked_for(self._parties.ask("hold", asked, (), "ready"))
        if not set(missing) <= set(call.held):
            raise PartyError("the parties ask for inputs that are no weights")
        parts = split(plan, call, missing, random_bytes(client_key(None)))
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
        plan, found = call.lowered.plan.hash(), self._uploads.of(call)
        if found is not None and plan in found.plans:
            return found.name
        if found is None:
            if (other := self._uploads.outdated(plan)) is not None:
                self._parties.ask("drop", {"name": other.name}, (), "dropped")
            found = Uploaded(full_name(self._client, secrets.token_hex(16)))
        self._upload(call, found.name, (), replace=False, lasting=False, add=bool(found.plans))
        found.serve(call)
        self._uploads.remember(found)
        return found.name

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
        self,
        calls: Sequence[Call],
        weights: str | None,
        material: ClusterMaterial | None,
        keep: Sequence[int] = (),
    ) -> tuple[list[Any], CostReport]:
        call, plan = calls[0], calls[0].lowered.plan
        kept = kept_inputs(calls, self._parties.session)
        self._moved = bool(kept)  # no other session has these, so there is no use in trying it again
        hash_, weights = self._register(plan), self._weights(call, weights)
        if plan.masked and material is None:
            material = self._ahead(calls, weights)
        dealer = number = None
        if material is not None:
            material.spend(self._parties.session, calls, weights)
            plan, number, dealer = material.plan, material.number, material.plan.mask_dealer
        places = unheld(call, weights, public=None if material is None else False)
        assert self._kept is not None
        asked = {
            "plan": hash_,
            "weights": weights,
            "places": places,
            "dealer": dealer,
            "count": len(calls),
            "material": number,
            "kept": kept,
            "keep": list(keep),
            "forget": self._kept.forget(),
        }
        started = time.perf_counter()
        self._parties.ask("run", asked, (), "ready")
        keys = [client_key(None) for _ in calls] if material is None else material.mask_keys
        parts = [split(plan, each, places, random_bytes(key)) for each, key in zip(calls, keys, strict=True)]
        self._moved = True

        def uploads(rank: int) -> list[Upload]:
            if rank == dealer:  # the dealer has drawn its part of every secret input
                return []
            return [each for member, shared in enumerate(parts) for each in messages(shared, member, rank)]

        answers = self._parties.upload(uploads, "done")
        seconds = time.perf_counter() - started
        outputs = join(plan, answers, self._kept.handles(calls, keep, answers))
        rows = records(answers)
        dealing = None if material is None else material.dealing
        report = cost_report(plan, rows, spu_costs(plan, rows), seconds, dealing)
        return outputs, replace(report, times=times(answers))
