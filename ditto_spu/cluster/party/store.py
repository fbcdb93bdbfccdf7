"""Keeps a party's checked plans, and its shares that serve many requests."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace as changed
from typing import Any

from ditto_spu.cluster.party.plan_checker import CheckedPlan
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.cluster.party.weights import Upload, Weights
from ditto_spu.errors import ClusterError

log = logging.getLogger("ditto_spu.cluster")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Store:
    """Keeps plans up to a number for each client, and weights up to a number of bytes.

    With too many plans the client's least recently used one is dropped. Weights that do not fit are refused.
    The name of weights starts with their owner's: only the client "alice" may upload "alice/model".

    idle: seconds after which weights that nobody uses are forgotten. `clock` returns the present time.
    """

    def __init__(
        self, plans: int, held: Quota, idle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_plans = plans
        self._held = held
        self._idle = idle
        self._clock = clock
        self._used: dict[str, float] = {}  # when weights were used for the last time
        self._plans: dict[str, OrderedDict[str, CheckedPlan]] = {}
        self._weights: dict[str, Weights] = {}
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def add_plan(self, client: str, plan: CheckedPlan) -> None:
        """Keep a plan as the client's most recently used one."""
        with self._lock:
            plans = self._plans.setdefault(client, OrderedDict())
            plans[plan.hash] = plan
            plans.move_to_end(plan.hash)
            while len(plans) > self._max_plans:
                plans.popitem(last=False)

    def plan(self, client: str, hash_: Any) -> CheckedPlan:
        """Return the client's plan with that hash, or the plan of weights that the client may use.

        Raises ClusterError if there is none.
        """
        with self._lock:
            plans = self._plans.get(client, OrderedDict())
            if isinstance(hash_, str) and hash_ in plans:
                plans.move_to_end(hash_)
                return plans[hash_]
            self._forget_unused()
            for each in self._weights.values():
                if hash_ in each.serves and client in (each.owner, *each.users):
                    return each.serves[hash_].plan
        raise ClusterError(f"no plan {str(hash_)[:64]} is registered: send it first")

    @property
    def nbytes(self) -> int:
        """Return the size of all weights in bytes, of those on their way too."""
        return self._held.used

    @contextlib.contextmanager
    def uploading(
        self, name: Any, owner: str, nbytes: int, replace: bool = False, add: bool = False
    ) -> Iterator[Upload]:
        """Reserve a name and room for weights until the context ends. `add_weights` then stores them.

        replace: whether they take the place of the owner's weights of that name. They do so at the end.
        add: whether they only let the owner's weights of that name serve a further plan.

        Raises ClusterError for a name that is not the owner's, that has weights which may not be replaced,
        or that another upload has reserved, and if the weights do not fit.
        """
        label = name.removeprefix(f"{owner}/") if isinstance(name, str) else ""
        if label == name or not _LABEL.fullmatch(label):
            raise ClusterError(
                f"'{owner}' names weights '{owner}/' and up to 64 letters, digits, '.', '_' and '-', not "
                f"'{str(name)[:80]}': that name would belong to another client"
            )
        with self._lock:
            if name in self._uploads:
                raise ClusterError(f"another upload of '{name}' is on its way: wait for its end")
            self._forget_unused()
            before = self._weights.get(name)
            if before is not None and not replace and not add:
                raise ClusterError(
                    f"there are weights '{name}': drop or replace them, or choose another name"
                )
            if add and before is not None and len(before.serves) >= self._max_plans:
                raise ClusterError(
                    f"weights '{name}' serve {len(before.serves)} plans already, `plans` in [limits]: upload "
                    "them under another name, too"
                )
            self._held.take(owner, nbytes)
            upload = Upload(name, owner, nbytes, None if before is None else before.version)
            self._uploads[name] = upload
        try:
            yield upload
        finally:
            with self._lock:
                if self._uploads.get(name) is upload:  # its weights were not stored
                    del self._uploads[name]
                    self._held.give_back(owner, nbytes)

    def add_weights(self, upload: Upload, weights: Weights, add: bool = False) -> None:
        """Keep weights under the name that their upload has reserved.

        add: whether they join the weights that have this name, which then serve their plans, too.

        Raises ClusterError if the upload has ended, if it is another owner's, or if the name's weights have
        changed since the parties agreed.
        """
        with self._lock:
            before = self._weights.get(upload.name)
            found = None if before is None else before.version
            mine = (upload.owner, upload.nbytes) == (weights.owner, weights.nbytes)
            if self._uploads.get(upload.name) is not upload or not mine:
                raise ClusterError(f"the upload of '{upload.name}' has ended, so its weights are not kept")
            if found != upload.before or (add and before is None):
                raise ClusterError(f"weights '{upload.name}' have changed during the upload: try again")
            if before is not None and add:
                serves = before.serves | weights.serves
                weights = changed(before, nbytes=before.nbytes + weights.nbytes, serves=serves)
            elif before is not None:
                self._forget(upload.name)
            del self._uploads[upload.name]  # the weights have its room from now on
            self._weights[upload.name] = weights
            self._used[upload.name] = self._clock()

    def own(self, name: Any, owner: str) -> Weights:
        """Return weights of this client. Raises ClusterError if it owns none of that name."""
        with self._lock:
            return self._own(name, owner)

    def _own(self, name: Any, owner: str) -> Weights:
        found = self._weights.get(name) if isinstance(name, str) else None
        if found is None or found.owner != owner:
            raise ClusterError(f"'{owner}' owns no weights '{str(name)[:80]}'")
        return found

    def weights(self, name: Any, client: str, plan: str) -> Weights:
        """Return weights that serve this plan and that the client may use. Raises ClusterError otherwise."""
        with self._lock:
            self._forget_unused()
            found = self._weights.get(name) if isinstance(name, str) else None
        if found is None or client not in (found.owner, *found.users):
            raise ClusterError(
                f"there are no weights '{str(name)[:80]}' that '{client}' may use (weights that nobody uses "
                f"for {self._idle:g} s are forgotten: `weights` in [timeouts])"
            )
        if plan not in found.serves:
            served = ", ".join(each[:16] for each in found.serves)
            raise ClusterError(
                f"weights '{name}' serve plan {served} alone, not plan {plan[:16]}: their owner chose it; "
                "compile the same function with the same shapes and configuration"
            )
        with self._lock:
            if self._weights.get(name) is found:
                self._used[name] = self._clock()
        return found

    def usable(self, client: str) -> dict[str, Weights]:
        """Return the weights that a client owns or may use, by name."""
        with self._lock:
            self._forget_unused()
            return {name: each for name, each in self._weights.items() if client in (each.owner, *each.users)}

    def drop(self, name: Any, owner: str) -> None:
        """Forget weights. Raises ClusterError if the client owns none of that name."""
        with self._lock:
            self._own(name, owner)
            self._forget(name)

    def end_session(self, session: str) -> None:
        """Forget the weights that end with a session."""
        with self._lock:
            for name in [name for name, each in self._weights.items() if each.session == session]:
                self._forget(name)

    def _forget_unused(self) -> None:
        now = self._clock()
        for name in [name for name, used in self._used.items() if now - used > self._idle]:
            self._forget(name)
            log.info("weights unused", extra={"facts": {"weights": name}})

    def _forget(self, name: str) -> None:
        found = self._weights.pop(name)
        del self._used[name]
        self._held.give_back(found.owner, found.nbytes)
