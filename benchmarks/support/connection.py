"""A connection to a server on this machine, on which requests are sent as prepared bytes."""

from __future__ import annotations

import select
import socket
from pathlib import Path

from benchmarks.support.responses import Response, ResponseReader

Address = int | Path
"""Where a server on this machine listens: a port of 127.0.0.1, or the path of a Unix socket."""

PART = 65536
"""The most bytes read at once."""


def connect(address: Address, timeout_s: float) -> socket.socket:
    """Opens a connection; `timeout_s` limits each step on it."""
    if isinstance(address, int):
        opened = socket.create_connection(("127.0.0.1", address), timeout=timeout_s)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout_s)
        opened.connect(str(address))
    except OSError:
        opened.close()
        raise
    return opened


class Connection:
    """A context manager: opened when something is sent, and opened again after either side has closed it."""

    def __init__(self, address: Address, timeout_s: float = 60.0) -> None:
        """Args: where the server listens; seconds to wait for it in each step."""
        self._address = address
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._reader = ResponseReader()

    def open(self) -> socket.socket:
        """Opens it unless it is open."""
        if self._socket is None:
            self._socket = connect(self._address, self._timeout_s)
            self._reader = ResponseReader()
        return self._socket

    def ask(self, request: bytes) -> Response:
        """Sends one request and returns its response; raises OSError or ValueError, and is closed then."""
        try:
            self.open().sendall(request)
        except OSError:
            self.close()
            raise
        return self.receive()

    def send(self, data: bytes) -> None:
        """Sends bytes, as far as the server takes them: it may have answered and closed before the last of them."""
        self.open().sendall(data)

    def receive(self) -> Response:
        """The next response; raises OSError or ValueError, and is closed then."""
        if self._socket is None:
            raise ConnectionError("not connected")
        try:
            while not self._reader.found:
                part = self._socket.recv(PART)
                if not part:
                    raise ConnectionError("the connection ended before the answer")
                self._reader.feed(part)
        except (OSError, ValueError):
            self.close()
            raise
        response = self._reader.found.popleft()
        if response.closes:
            self.close()
        return response

    def was_ended(self) -> bool:
        """Whether the server ended it between two requests, which every HTTP client checks before it sends the next."""
        return self._socket is not None and bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Closes it, if it is open."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(address: Address, request: bytes, timeout_s: float = 60.0) -> Response:
    """Sends one request on a connection of its own."""
    with Connection(address, timeout_s) as connection:
        return connection.ask(request)
