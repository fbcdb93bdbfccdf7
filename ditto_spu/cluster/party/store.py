"""What a party keeps between requests: checked plans, and shares that serve many requests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from ditto_kernels.values.replicated import Rss
from ditto_spu.errors import ClusterError
from ditto_spu.plan.plan import Plan


@dataclass(frozen=True)
class Weights:
    """One owner's named shares. They serve one plan, which the owner chose, and the named clients alone."""

    owner: str
    plan: str
    users: tuple[str, ...]
    token: str  # drawn by the owner: which upload this is, the same at all parties
    parts: dict[int, Any] = field(repr=False)  # by the input's place in the plan

    @property
    def nbytes(self) -> int:
        return sum(
            each.mine.nbytes + each.next.nbytes if isinstance(each, Rss) else each.nbytes
            for each in self.parts.values()
        )


class Store:
    """Plans, the least recently used of which is dropped, and weights, up to a limit of bytes."""

    def __init__(self, plans: int, held_bytes: int) -> None:
        self._max_plans = plans
        self._max_bytes = held_bytes
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._weights: dict[str, Weights] = {}
        self._lock = threading.Lock()

    def add_plan(self, plan: Plan) -> None:
        with self._lock:
            self._plans[plan.hash()] = plan
            self._plans.move_to_end(plan.hash())
            while len(self._plans) > self._max_plans:
                self._plans.popitem(last=False)

    def plan(self, hash_: Any) -> Plan:
        """ClusterError if no plan of that hash was registered."""
        with self._lock:
            if not isinstance(hash_, str) or hash_ not in self._plans:
                raise ClusterError(f"no plan {str(hash_)[:40]} is registered: send it first")
            self._plans.move_to_end(hash_)
            return self._plans[hash_]

    def check_owner(self, name: str, client: str) -> None:
        """ClusterError if the name belongs to another client."""
        with self._lock:
            if name in self._weights and self._weights[name].owner != client:
                raise ClusterError(f"weights '{name}' belong to another client")

    @property
    def nbytes(self) -> int:
        """Of all weights."""
        with self._lock:
            return sum(each.nbytes for each in self._weights.values())

    def check_room(self, name: str, nbytes: int) -> None:
        """ClusterError if the party holds too much already to keep, or replace, so much under a name."""
        with self._lock:
            others = sum(each.nbytes for key, each in self._weights.items() if key != name)
        if others + nbytes > self._max_bytes:
            raise ClusterError(f"weights '{name}' exceed the {self._max_bytes} bytes that a party holds")

    def add_weights(self, name: str, weights: Weights) -> None:
        """Keep or replace. ClusterError if the party holds too much already."""
        self.check_room(name, weights.nbytes)
        with self._lock:
            self._weights[name] = weights

    def weights(self, name: Any, client: str, plan: str) -> Weights:
        """ClusterError unless they exist, for this plan, and this client may use them."""
        with self._lock:
            found = self._weights.get(name) if isinstance(name, str) else None
        if found is None or client not in (found.owner, *found.users):
            raise ClusterError(f"there are no weights '{str(name)[:64]}' that '{client}' may use")
        if found.plan != plan:
            raise ClusterError(
                f"weights '{name}' serve plan {found.plan} alone, not plan {plan}: their owner chose it; "
                "compile the same function with the same shapes and configuration"
            )
        return found
