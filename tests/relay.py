"""A relay between a client and a server that can be cut, pointed elsewhere, and silenced, and keeps what was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path


class Relay:
    """Passes bytes on, each connection in two threads.

    Attributes:
        target: the server's URL; connections that are open stay with the one before.
        is_silent: whether answers are kept back.
        asked: all bytes that clients have sent.
        replaced: bytes of answers, and what is sent in their place.
    """

    def __init__(self, target: str, path: Path | None = None) -> None:
        """Listens on a Unix socket with that path, or on a free port of this machine."""
        self.target, self.is_silent, self.asked = target, False, b""
        self.replaced: tuple[bytes, bytes] = (b"", b"")
        self._path = path
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._address: str | tuple[str, int] = str(path) if path else ("127.0.0.1", 0)
        self.connect()

    @property
    def url(self) -> str:
        return f"unix:{self._path}" if self._path else f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def connect(self) -> None:
        """Listens, also once more after `cut`, at the same address."""
        self._listener = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self._address)
        if not self._path:
            self._address = self._listener.getsockname()
        self._listener.listen()
        self._start(self._accept, self._listener)

    def cut(self) -> None:
        """Ends all connections, and listens no more."""
        self.is_silent = False
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()
        self._open.clear()
        self._threads.clear()
        if self._path:
            self._path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Ends the connections, as a server does with idle ones, and goes on listening."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, what: object, *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                parts = urllib.parse.urlsplit(self.target)
                server = socket.create_connection((parts.hostname or "", parts.port or 80))
                self._open += [client, server]
                self._start(self._pump, client, server, True)
                self._start(self._pump, server, client, False)

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_request:
                    self.asked += data
                elif self.replaced[0]:
                    data = data.replace(*self.replaced)
                while self.is_silent and not is_request:
                    time.sleep(0.01)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relaying(target: str, path: Path | None = None) -> Iterator[Relay]:
    """A relay to that server, which ends with the block."""
    relay = Relay(target, path)
    try:
        yield relay
    finally:
        relay.cut()
