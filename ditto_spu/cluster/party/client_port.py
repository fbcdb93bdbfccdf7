"""Reads a client's messages at one party, in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import Message
from ditto_spu.errors import ClusterError

_PENDING = 2  # messages that may wait in the queue


class ClientPort:
    """Queues a client's messages, and notices when the client goes away during a run.

    At most two messages wait in the queue. The reader may hold one more.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.failure: LinkError | None = None
        self.stopping: str | None = None
        self._interruption: BaseException | None = None
        self._link: PeerLink | None = None
        self._changed = threading.Condition()
        self._arrived: deque[Message] = deque()
        self._discarding = False
        threading.Thread(target=self._read, daemon=True).start()

    def stops(self, link: PeerLink) -> None:
        """Register the link that fails when the client goes away."""
        self._link = link
        if self.failure is not None:
            link.fail(self.failure)

    def interrupt(self, failure: BaseException) -> None:
        """Wake whoever waits for the client, because the session has failed elsewhere."""
        with self._changed:
            self._interruption = failure
            self._changed.notify_all()

    def stop(self, reason: str | None) -> None:
        """Allow no further request to start: `next_request` raises the reason as a ClusterError.

        If `reason` is None, requests may start.
        """
        with self._changed:
            self.stopping = reason
            self._changed.notify_all()

    def next_request(self, timeout: float) -> Message:
        """Return the first message of the client's next request.

        Raises LinkError if none comes within `timeout` seconds or the client is gone, and ClusterError after
        `stop`.
        """
        return self._take(timeout, between=True)

    def receive(self, timeout: float) -> Message:
        """Return the next message of a request.

        Raises LinkError if the client is silent for `timeout` seconds. A large message may take longer.
        """
        return self._take(timeout, between=False)

    def _take(self, timeout: float, between: bool) -> Message:
        def ready() -> bool:
            failed = self.failure is not None or self._interruption is not None
            return bool(self._arrived) or failed or (between and self.stopping is not None)

        started = time.monotonic()
        with self._changed:
            while not ready():
                left = max(started, self.channel.heard) + timeout - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if not ready():
                raise LinkError(f"{self.channel.peer} sent nothing for {timeout:g} s")
            if self._interruption is not None:
                raise LinkError(str(self._interruption))
            if self._arrived:
                self._changed.notify_all()
                return self._arrived.popleft()
            if self.failure is not None:
                raise self.failure
            raise ClusterError(str(self.stopping))

    def refuse(self, reason: str, seconds: float) -> None:
        """Tell the client why the session is over, and read on for up to `seconds` until it has heard.

        The client may be in the middle of an upload. What it sends is discarded.
        """
        with self._changed:
            self._discarding = True
            self._arrived.clear()
            self._changed.notify_all()
        with contextlib.suppress(LinkError):  # the client may be gone
            self.channel.send("error", {"reason": reason, "over": True})
            self.channel.finish()
        with self._changed:
            self._changed.wait_for(lambda: self.failure is not None, seconds)

    def close(self) -> None:
        """End the connection and discard what has arrived."""
        self.channel.close()
        with self._changed:
            self._discarding = True
            self._arrived.clear()
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            while True:
                message = self.channel.receive(None)
                with self._changed:
                    self._changed.wait_for(lambda: len(self._arrived) < _PENDING or self._discarding)
                    if not self._discarding:
                        self._arrived.append(message)
                    self._changed.notify_all()
        except Exception as error:  # a malformed message may cause any error
            with self._changed:
                self.failure = (
                    error if isinstance(error, LinkError) else LinkError(f"malformed message: {error}")
                )
                self._changed.notify_all()
            if self._link is not None:
                self._link.fail(self.failure)
