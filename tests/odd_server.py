"""A policy server whose metadata are right and whose answers are not, as by a bad network or a proxy."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests_support import Server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"


class OddServer:
    """Answers GET with the metadata of a real server, and POST in one way.

    Attributes:
        url: where it listens.
        questions: POST requests that came.
    """

    def __init__(self, metadata: bytes, way: str, path: Path | None) -> None:
        self._metadata, self._way = metadata, way
        self.questions = 0
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.url = f"unix:{path}"
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._talk, args=(connection,)))
                self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError):
            while (asked := connection.recv(65536)) and not self._ended.is_set():
                if asked.startswith(b"GET"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._metadata))
                    connection.sendall(self._metadata)
                elif asked.startswith(b"POST"):
                    self.questions += 1
                    self._answer(connection)
                    return

    def _answer(self, connection: socket.socket) -> None:
        if self._way == "broken":
            connection.sendall(HEAD + b"\r\nabc")
        if self._way == "body":
            connection.sendall(HEAD + b"\r\n")
        while self._way in {"head", "body"} and not self._ended.wait(0.05):
            connection.sendall(b"X-More: 1\r\n" if self._way == "head" else b"x")

    def close(self) -> None:
        """Ends its threads."""
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def answering_oddly(real: Server, way: str, path: Path | None = None) -> Iterator[OddServer]:
    """One that answers so.

    Args:
        real: whose metadata it tells.
        way: head or body: byte by byte, without end; broken: a part and then no more; ended: nothing.
        path: of a Unix socket to listen on; None for a port.
    """
    odd = OddServer(real.get("/metadata").body, way, path)
    try:
        yield odd
    finally:
        odd.close()
