"""One attempt at a client's request: its deadline, and whether the request may be sent again."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from typing import Any

import httpcore

from ..errors import UnreachableError
from .unix_address import is_unix, socket_path
from .unix_stream import UnixStream

FAILED = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)
CONNECTS = ("connection.connect_tcp.started", "connection.connect_unix_socket.started")
"""The events that say that a new connection is being opened."""
LOST = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)


class OverBudget(Exception):  # noqa: N818
    """No time is left to wait for a response."""


class Attempt:
    """The progress of one attempt, which httpcore reports through its extension `trace`."""

    def __init__(self) -> None:
        self._opened = self._answered = False

    def record(self, event: str, info: dict[str, Any]) -> None:
        """Records one event."""
        self._opened = self._opened or event in CONNECTS
        self._answered = self._answered or event == "http11.receive_response_headers.complete"

    async def record_async(self, event: str, info: dict[str, Any]) -> None:
        """Records one event."""
        self.record(event, info)

    def may_repeat(self, error: Exception) -> bool:
        """Whether the request was lost because the server had already closed the kept-alive connection."""
        return isinstance(error, LOST) and not self._opened and not self._answered


def failure(url: str, error: Exception, budget_ends: float | None) -> Exception:
    """The caller's error for a failed attempt: over budget, or unreachable."""
    late = isinstance(error, httpcore.TimeoutException | TimeoutError)
    if late and budget_ends is not None and time.monotonic() >= budget_ends - 1e-3:
        return OverBudget()
    if _is_refused(error):
        return UnreachableError(f"{url}: no answer: nothing listens there; is carla-serve running, at that address?")
    if is_unix(url) and not socket_path(url).exists():
        return UnreachableError(
            f"{url}: no answer: there is no such socket; is carla-serve running, with --host {url}?"
        )
    said = str(error).rstrip(".") or type(error).__name__
    return UnreachableError(f"{url}: no answer: {_untrusted(error) or said + _about_tls(url, error)}")


def _untrusted(error: Exception) -> str:
    """Why the server's certificate is not trusted, and what to do; empty for another error."""
    found = re.search(r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: (.*?)( \(_ssl\.c:\d+\))?$", str(error))
    if not found:
        return ""
    named = os.environ.get("SSL_CERT_FILE")
    if named and not os.path.exists(named):
        return f"its certificate is not trusted ({found[1]}): SSL_CERT_FILE names {named}, and there is no such file"
    return f"its certificate is not trusted ({found[1]}); the variable SSL_CERT_FILE may name the certificate to trust"


def _about_tls(url: str, error: Exception) -> str:
    """What to look at where one side may speak TLS and the other not."""
    if url.startswith("https:") and "[SSL" in str(error):
        return "; does the server speak TLS? if not, its address begins with http:"
    if url.startswith("http:") and isinstance(error, httpcore.RemoteProtocolError):
        return "; does the server speak TLS? if so, its address begins with https:"
    return ""


def _is_refused(error: BaseException | None) -> bool:
    """Whether nothing listens at the address; anyio tells it by the errors of all addresses that it tried."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_refused, error.exceptions))
    is_it = isinstance(error, ConnectionRefusedError)
    return is_it or (error is not None and _is_refused(error.__cause__ or error.__context__))


class TimedBackend(httpcore.NetworkBackend):
    """Sockets with one deadline for all steps of a call, instead of a timeout for each.

    No deadline bounds the system's look-up of a host's name. So a call with a budget never looks up: it connects to the
    addresses that an earlier call found. If none of them answers, a thread looks the name up for later calls.

    Attributes:
        ends: the call's deadline, by `time.monotonic`.
        may_look_up: whether the call may wait for the look-up.
    """

    def __init__(self) -> None:
        self.ends = float("inf")
        self.may_look_up = True
        self._addresses: list[str] = []
        self._look_up_beside: threading.Thread | None = None
        self._sockets = httpcore.SyncBackend()

    def left(self) -> float:
        """Seconds until the deadline; raises httpcore.ReadTimeout when it has passed."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("timed out")
        return left

    def connect_tcp(self, host: str, port: int, *_: Any, **options: Any) -> httpcore.NetworkStream:
        """Opens a connection to the first of the host's addresses that answers; the time is shared among them."""
        if self.may_look_up:
            self._look_up(host)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        addresses = self._addresses
        for index, address in enumerate(addresses):
            options["timeout"] = self.left() / (len(addresses) - index)
            try:
                return TimedStream(self, self._sockets.connect_tcp(address, port, **options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        if not self.may_look_up and (self._look_up_beside is None or not self._look_up_beside.is_alive()):
            self._look_up_beside = threading.Thread(target=self._look_up, args=(host,), daemon=True)
            self._look_up_beside.start()
        raise failed

    def _look_up(self, host: str) -> None:
        """Finds the host's addresses; if it can't, those that are known stay."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one, such as a..b
            if self._addresses:
                return
            raise httpcore.ConnectError(str(error)) from error
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV  # with an IPv6 address's zone, which its tuple lacks
        self._addresses = [socket.getnameinfo(address, numeric)[0] for *_, address in found]

    def connect_unix_socket(self, path: str, *_: Any, **options: Any) -> httpcore.NetworkStream:
        """Opens a connection to a Unix socket."""
        return TimedStream(self, UnixStream(path, self.left()))


class TimedStream(httpcore.NetworkStream):
    """One connection of a TimedBackend."""

    def __init__(self, backend: TimedBackend, stream: httpcore.NetworkStream) -> None:
        self._backend, self._stream = backend, stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns bytes as soon as any are there."""
        return self._stream.read(max_bytes, self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes all bytes in chunks, each within the time that is left."""
        for start in range(0, len(buffer), 65536):
            self._stream.write(buffer[start : start + 65536], self._backend.left())

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()

    def start_tls(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        """Switches the connection to TLS."""
        options = {**options, "timeout": self._backend.left()}
        return TimedStream(self._backend, self._stream.start_tls(*arguments[:2], **options))

    def get_extra_info(self, info: str) -> Any:
        """Passes on the socket's information."""
        return self._stream.get_extra_info(info)
