"""One question of a client: when its time is over, and whether it may be asked again."""

from __future__ import annotations

import time
from typing import Any

import httpcore

from ..errors import UnreachableError

FAILED = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)
LOST = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)


class OverBudget(Exception):  # noqa: N818
    """There is no time left to wait for an answer."""


class Attempt:
    """What is known of one try; httpcore tells it what happens (its extension `trace`)."""

    def __init__(self) -> None:
        self._opened = self._answered = False

    def hear(self, event: str, info: dict[str, Any]) -> None:
        """Takes one event."""
        self._opened = self._opened or event == "connection.connect_tcp.started"
        self._answered = self._answered or event == "http11.receive_response_headers.complete"

    async def hear_async(self, event: str, info: dict[str, Any]) -> None:
        """Takes one event."""
        self.hear(event, info)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the question never got anywhere: the server had ended a connection that was kept for the next."""
        return isinstance(error, LOST) and not self._opened and not self._answered


def failure(url: str, error: Exception, budget_ends: float | None) -> Exception:
    """What a failed try is for the caller: too late, or no answer."""
    late = isinstance(error, httpcore.TimeoutException | TimeoutError)
    if late and budget_ends is not None and time.monotonic() >= budget_ends - 1e-3:
        return OverBudget()
    return UnreachableError(f"{url}: no answer: {error or type(error).__name__}")


class TimedBackend(httpcore.NetworkBackend):
    """Sockets on which a whole call ends in time, and not only each of its steps.

    Attributes:
        ends: when the call's time is over, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.ends = float("inf")
        self._sockets = httpcore.SyncBackend()

    def left(self) -> float:
        """Seconds; raises httpcore.ReadTimeout when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("timed out")
        return left

    def connect_tcp(self, host: str, port: int, *_: Any, **options: Any) -> httpcore.NetworkStream:
        """Opens a connection."""
        options = {**options, "timeout": self.left()}
        return TimedStream(self, self._sockets.connect_tcp(host, port, **options))


class TimedStream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, backend: TimedBackend, stream: httpcore.NetworkStream) -> None:
        self._backend, self._stream = backend, stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes, as soon as there are any."""
        return self._stream.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All bytes, in parts: each has what is left of the time."""
        for start in range(0, len(buffer), 65536):
            self._stream.write(buffer[start : start + 65536], self._backend.left())

    def close(self) -> None:
        """Ends it."""
        self._stream.close()

    def start_tls(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        """Goes on encrypted."""
        options = {**options, "timeout": self._backend.left()}
        return TimedStream(self._backend, self._stream.start_tls(*arguments[:2], **options))

    def get_extra_info(self, info: str) -> Any:
        """What the socket knows of itself."""
        return self._stream.get_extra_info(info)
