"""Holds what all sessions of a party share: its store, its queue, its limits and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from ditto_spu.cluster.net.cluster_file import Cluster
from ditto_spu.cluster.party.delays import Delays
from ditto_spu.cluster.party.metrics import Metrics
from ditto_spu.cluster.party.plan_checker import PlanChecker
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.cluster.party.request_queue import Turns
from ditto_spu.cluster.party.store import Store


@dataclass(frozen=True)
class Shared:
    """Holds the objects that all sessions of a party share.

    sessions, material: what clients have of the number of sessions, and of the bytes of unspent material.
    kept_bytes, kept: what they have of the bytes and of the number of kept outputs.
    """

    cluster: Cluster
    store: Store
    turns: Turns
    sessions: Quota
    material: Quota
    kept_bytes: Quota
    kept: Quota
    checker: PlanChecker
    delays: Delays = field(default_factory=Delays)
    metrics: Metrics = field(default_factory=Metrics)


def shared_objects(cluster: Cluster, checker: PlanChecker) -> Shared:
    """Return the objects for a party of this cluster. They keep its limits."""
    limits = cluster.limits

    def quota(what: str, limit: str, total: int) -> Quota:
        return Quota(what, limit, total, cluster.of_client(total))

    held = quota("bytes of weights", "held_mb", limits.held_mb << 20)
    queued = quota("bytes of inputs", "queued_mb", limits.queued_mb << 20)
    of_client = cluster.of_client(limits.sessions)
    sessions = Quota("sessions", "sessions", limits.sessions, of_client, len(cluster.clients))
    waiting = limits.waiting_mb << 20
    material = Quota("bytes of unspent material", "waiting_mb", waiting * len(cluster.clients), waiting)
    kept_bytes = quota("bytes of kept outputs", "kept_mb", limits.kept_mb << 20)
    made = Shared(
        cluster,
        Store(limits.plans, held, cluster.timeouts.weights),
        Turns(limits.running, cluster.of_client(limits.running), queued),
        sessions,
        material,
        kept_bytes,
        quota("kept outputs", "kept", limits.kept),
        checker,
    )
    watch, turns = made.metrics.watch, made.turns
    watch("ditto_queue_length", "Requests that wait for their turn.", lambda: turns.queued)
    watch("ditto_running", "Requests that compute.", lambda: turns.running)
    watch("ditto_held_bytes", "Shares of weights.", lambda: held.used)
    watch("ditto_kept_bytes", "Shares of kept outputs.", lambda: kept_bytes.used)
    watch("ditto_material_bytes", "Unspent material.", lambda: material.used)
    return made
