"""Keeps a party's checked plans, and its shares that serve many requests."""

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
    """Holds a party's shares of one owner's weights.

    They serve only the one plan that the owner chose, and only the owner and the clients in `users`.
    """

    owner: str
    plan: str
    users: tuple[str, ...]
    token: str  # drawn by the owner to name this upload; the same at all parties
    parts: dict[int, Any] = field(repr=False)  # by the input's place in the plan

    @property
    def nbytes(self) -> int:
        """Return the size of the shares in bytes."""
        return sum(
            each.mine.nbytes + each.next.nbytes if isinstance(each, Rss) else each.nbytes
            for each in self.parts.values()
        )


class Store:
    """Keeps plans up to a number, and weights up to a number of bytes.

    With too many plans the least recently used one is dropped. Weights that do not fit are refused.
    """

    def __init__(self, plans: int, held_bytes: int) -> None:
        self._max_plans = plans
        self._max_bytes = held_bytes
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._weights: dict[str, Weights] = {}
        self._lock = threading.Lock()

    def add_plan(self, plan: Plan) -> None:
        """Keep a plan as the most recently used one."""
        with self._lock:
            self._plans[plan.hash()] = plan
            self._plans.move_to_end(plan.hash())
            while len(self._plans) > self._max_plans:
                self._plans.popitem(last=False)

    def plan(self, hash_: Any) -> Plan:
        """Return the plan with that hash. Raises ClusterError if there is none."""
        with self._lock:
            if not isinstance(hash_, str) or hash_ not in self._plans:
                raise ClusterError(f"no plan {str(hash_)[:40]} is registered: send it first")
            self._plans.move_to_end(hash_)
            return self._plans[hash_]

    def check_owner(self, name: str, client: str) -> None:
        """Raise ClusterError if the name belongs to another client."""
        with self._lock:
            self._require_owner(name, client)

    def _require_owner(self, name: str, client: str) -> None:
        if name in self._weights and self._weights[name].owner != client:
            raise ClusterError(f"weights '{name}' belong to another client")

    @property
    def nbytes(self) -> int:
        """Return the size of all weights in bytes."""
        with self._lock:
            return sum(each.nbytes for each in self._weights.values())

    def check_room(self, name: str, nbytes: int) -> None:
        """Raise ClusterError if `nbytes` of weights do not fit. They may replace those of that name."""
        with self._lock:
            self._require_room(name, nbytes)

    def _require_room(self, name: str, nbytes: int) -> None:
        others = sum(each.nbytes for key, each in self._weights.items() if key != name)
        if others + nbytes > self._max_bytes:
            raise ClusterError(f"weights '{name}' exceed the {self._max_bytes} bytes that a party holds")

    def add_weights(self, name: str, weights: Weights) -> None:
        """Keep weights, or replace their owner's earlier ones of that name.

        Owner and room are checked again in the same step: another upload may have ended since agreement.
        Raises ClusterError if the name belongs to another client, or if the weights do not fit.
        """
        with self._lock:
            self._require_owner(name, weights.owner)
            self._require_room(name, weights.nbytes)
            self._weights[name] = weights

    def weights(self, name: Any, client: str, plan: str) -> Weights:
        """Return weights that serve this plan and that the client may use. Raises ClusterError otherwise."""
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
