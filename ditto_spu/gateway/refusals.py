"""Tell a caller why a request is refused, in the form of OpenAI's errors."""

from __future__ import annotations

from typing import Any

from ditto_spu.errors import ClusterError, DittoError, InputError, PartyError, RangeError

# What each of our errors is to a caller. The public clients try again after a status of 500 and more.
_STATUS: tuple[tuple[type[DittoError], int, str], ...] = (
    (InputError, 400, "invalid_request_error"),
    (RangeError, 422, "range_error"),
    (PartyError, 503, "party_error"),
    (ClusterError, 503, "cluster_error"),
)


class Refusal(Exception):
    """A request that is not served. param: the field of the body that is at fault."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }


def refusal(error: Exception) -> Refusal:
    """Return what a caller is told about an error. Of errors that are not ours it is no detail."""
    if isinstance(error, Refusal):
        return error
    for kind, status, name in _STATUS:
        if isinstance(error, kind):
            return Refusal(str(error), status=status, kind=name)
    if isinstance(error, DittoError):
        return Refusal(str(error), status=500, kind="server_error")
    return Refusal("the gateway failed; its own output tells more", status=500, kind="server_error")
