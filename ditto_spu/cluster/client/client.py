"""Implements a cluster's client, which shares its inputs, sends each party its part, and joins outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ditto_spu.api import Call, Result, SecureFunction
from ditto_spu.cluster.client.calls import call_of, calls_of, returned
from ditto_spu.cluster.client.client_session import ClientSession
from ditto_spu.cluster.client.material import ClusterMaterial
from ditto_spu.cluster.client.weights import HeldWeights, full_name, listed
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.errors import InputError
from ditto_spu.frontend.kept_arguments import Keep
from ditto_spu.plan.cost_report import CostReport


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


class ClusterClient(ClientSession):
    """Runs secure functions at the parties of a cluster, one request at a time. Connects when first needed.

    Threads may share a client: their requests wait for each other.

    Security: inputs leave this process only as shares, and each party gets only its own part. Each party's
    certificate is verified and pinned. Shares move only after all three parties agree on plan and software.
    Outputs are joined here from freshly re-randomised shares.
    """

    def __enter__(self) -> ClusterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster. Weights that were uploaded under a name stay with the parties."""
        self._close()

    def upload(
        self,
        function: SecureFunction,
        *args: Any,
        name: str,
        users: Sequence[str] = (),
        replace: bool = False,
        add: bool = False,
        keep: Keep = (),
        **kwargs: Any,
    ) -> Call:
        """Upload shares of the function's held arguments once, under a name of this client.

        They serve only the plan that this call compiles to. Other clients may use them only if `users`
        names them. Only the shapes of the other arguments matter. They stay until `drop`, or until the
        parties end.

        name: up to 64 letters, digits, '.', '_' and '-'. Others name them with this client: "alice/model".
        replace: whether they take the place of earlier weights of this name. Requests that run meanwhile use
            the old ones or the new ones.
        add: whether weights of this name serve this plan, too, with the users that they have. Of arguments
            that another of their plans takes in the same format no share is uploaded again.
        keep: names or places of outputs that always stay in shares when somebody uses these weights. Only
            plans of the same weights read them. An argument that is a handle, of a run or of
            `Call.described`, has to be such an output.

        Returns the compiled call. Its `described` has handles for uploads of functions that read what stays.

        Raises ClusterError if a party refuses, or if there are weights of this name and neither `replace` nor
        `add` is True. Raises InputError if the function has no held arguments, and for wrong `keep`.
        """
        call = call_of(function, args, kwargs, self._network)
        if not call.held:
            raise InputError("the function holds no arguments: upload(function.hold(params=params), ...)")
        if add and users:
            raise InputError(f"the users of '{name}' were chosen at its first upload: leave `users` out")
        places = sorted(call.places(keep))
        self._once_more(lambda: self._upload(call, name, users, replace, True, add, places))
        return call

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
        keep: Keep = (),
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
        places = sorted(call.places(keep))
        outputs, report = self._once_more(lambda: self._run([call], weights, material, places))
        return Result(returned(call, outputs[0]), replace(report, hoisted=call.lowered.program.hoisted))

    def run_many(
        self,
        function: SecureFunction,
        inputs: Sequence[Any],
        *,
        weights: str | None = None,
        material: ClusterMaterial | None = None,
        keep: Keep = (),
    ) -> BatchResult:
        """Run several calls of one function in one request, with the rounds of one call.

        inputs: the arguments of each call, as a tuple of positional arguments or a dictionary of named ones.
            All calls have the same shapes, and handles for the same arguments. There are at most as many as
            the cluster's limit `batch`.

        The other arguments are as for `run`.
        """
        calls = calls_of(function, inputs, self._batch, self._network)
        places = sorted(calls[0].places(keep))
        outputs, report = self._once_more(lambda: self._run(calls, weights, material, places))
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
