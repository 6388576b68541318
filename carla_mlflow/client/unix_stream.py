"""A connection to a Unix socket for httpcore, whose own leaves the socket open when connecting fails."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpcore

FULL_S = 0.001
"""Seconds between two tries while the server's queue of new connections is full."""


class UnixStream(httpcore.NetworkStream):
    """An open connection; errors and timeouts are httpcore's."""

    def __init__(self, path: str, timeout: float) -> None:
        """Connects within `timeout` seconds."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        ends = time.monotonic() + timeout
        try:
            with _as_of_httpcore(httpcore.ConnectError, httpcore.ConnectTimeout):
                self._socket.settimeout(timeout)
                self._connect(path, ends)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, path: str, ends: float) -> None:
        while True:
            try:
                return self._socket.connect(path)
            except BlockingIOError as error:  # the kernel does not wait for room in the queue, as it does for TCP
                if time.monotonic() + FULL_S > ends:
                    raise TimeoutError("timed out") from error
            time.sleep(FULL_S)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns bytes as soon as any are there."""
        with _as_of_httpcore(httpcore.ReadError, httpcore.ReadTimeout):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes all bytes."""
        with _as_of_httpcore(httpcore.WriteError, httpcore.WriteTimeout):
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Answers `is_readable`, by which httpcore sees that the server has closed an idle connection."""
        if info == "is_readable":
            if self._socket.fileno() < 0:
                return True
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return self._socket if info == "socket" else None


@contextlib.contextmanager
def _as_of_httpcore(failed: type[Exception], late: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error
