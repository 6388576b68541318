"""Steady load on a policy server: connections that each send the next request after a response, all recorded."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from benchmarks.two_policies import Questions


@dataclass
class Record:
    """What came back.

    Attributes:
        answers: when a request was sent, when it was answered (both `time.monotonic`), and by which version.
        wrong: the versions named in responses whose actions are not that version's.
        failed: the status or error of each request without a complete response of status 200.
    """

    answers: list[tuple[float, float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def last_of(self, version: str, since: float) -> float:
        """When a version's last response to a request sent at `since` or later came; `since` when there is none."""
        return max((came for sent, came, by in self.answers if by == version and sent >= since), default=since)


class SteadyLoad:
    """A context manager: sends requests from entering to leaving."""

    def __init__(self, url: str, questions: Questions, connections: int = 16, pause_s: float = 0.0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._questions = questions
        self._pause_s = pause_s
        self._stop = threading.Event()
        self.record = Record()
        self._threads = [threading.Thread(target=self._ask, args=(7 * i,), daemon=True) for i in range(connections)]

    def __enter__(self) -> Record:
        for thread in self._threads:
            thread.start()
        return self.record

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, index: int) -> None:
        connection = None
        while not self._stop.is_set():
            time.sleep(self._pause_s)
            index = (index + 1) % len(self._questions.bodies)
            try:
                connection = connection or socket.create_connection(self._address, timeout=20)
                sent = time.monotonic()
                status, body, closes = exchange(connection, "/predict", self._questions.bodies[index])
                self._judge(index, sent, status, body)
                if closes:
                    connection.close()
                    connection = None
            except (OSError, ValueError) as error:
                self.record.failed.append(repr(error))
                with contextlib.suppress(OSError):
                    connection.close() if connection else None
                connection = None
                time.sleep(0.05)

    def _judge(self, index: int, sent: float, status: int, body: bytes) -> None:
        if status != 200:
            self.record.failed.append(f"{status} {body[:200]!r}")
            return
        answer = msgspec.json.decode(body)
        self.record.answers.append((sent, time.monotonic(), answer["version"]))
        if not self._questions.is_right(index, answer):
            self.record.wrong.append(answer["version"])


def exchange(connection: socket.socket, path: str, body: bytes) -> tuple[int, bytes, bool]:
    """Sends one request on an open connection; returns status, body, and whether the server closes it."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head_bytes, _, rest = received.partition(b"\r\n\r\n")
    lines = head_bytes.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    while len(rest) < int(headers["content-length"]):
        rest += _more(connection)
    return int(lines[0].split()[1]), rest, headers.get("connection") == "close"


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ValueError("the connection ended before the answer")
    return part
