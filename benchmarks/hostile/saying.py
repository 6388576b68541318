"""Sends bytes to a server, and checks what comes back."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serve.errors import STATUS

MARK = b"HoStIlE"
"""Put into requests wherever a response might repeat it; no response may."""
INNER = re.compile(rb"Traceback|site-packages|\.py\b|/home/|/root/|/usr/|0x[0-9a-f]{8}|File \"")
"""Internals that may appear only in a log."""
LATEST_S = 20.0
NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """A response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Case:
    """One request to send.

    Attributes:
        name: short.
        sent: its bytes, whole or in parts.
        allowed: statuses that the response may have.
        may_end: whether closing the connection without a response is right too.
        is_last: whether the good request that follows it on its connection must not be answered.
        closes: whether the client shuts down its sending side afterwards.
    """

    name: str
    sent: bytes | Iterable[bytes]
    allowed: frozenset[int]
    may_end: bool = False
    is_last: bool = False
    closes: bool = True


@dataclass
class Tally:
    """The results of a row.

    Attributes:
        tried: the number of cases.
        problems: what was wrong with each case that was mishandled.
        statuses: status → how often it came; 0 for a connection that ended without a response.
    """

    tried: int = 0
    problems: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def add(self, status: int, problem: str | None) -> None:
        """Counts one case."""
        self.tried += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if problem:
            self.problems.append(problem)


def say(port: int, sent: bytes | Iterable[bytes], closes: bool = True) -> list[Reply]:
    """Sends bytes on a new connection and returns all responses; raises TimeoutError when the server keeps it open."""
    with socket.create_connection(("127.0.0.1", port), timeout=LATEST_S) as connection:
        try:
            for part in [sent] if isinstance(sent, bytes) else sent:
                connection.sendall(part)
            if closes:
                connection.shutdown(socket.SHUT_WR)
        except TimeoutError:
            raise
        except OSError:  # refused before all of it was sent
            pass
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                found += part
    return read_replies(found)


def read_replies(data: bytes) -> list[Reply]:
    """Parses consecutive responses, without those of status 100; raises ValueError when they are malformed."""
    found = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        if not separator:
            raise ValueError(f"a head without end: {head[:100]!r}")
        if status == 100:
            continue
        length = int(headers.get("content-length", 0))
        found.append(Reply(status, headers, data[:length]))
        data = data[length:]
    return found


def judge(case: Case, replies: list[Reply]) -> str | None:
    """What is wrong with the responses; None when nothing is."""
    if not replies:
        return None if case.may_end else "the connection ended without an answer"
    if case.is_last and len(replies) > 1:
        return f"went on answering: {[reply.status for reply in replies]}"
    return judge_one(replies[0], case.allowed)


def judge_one(reply: Reply, allowed: frozenset[int]) -> str | None:
    """What is wrong with one response; None when nothing is."""
    if reply.status not in allowed:
        return f"{reply.status} {reply.body[:160]!r}"
    said = repr(reply.headers).encode() + reply.body
    if MARK.lower() in said.lower():
        return f"{reply.status}, and repeats what was sent"
    if INNER.search(said):
        return f"{reply.status}, and tells what is inside: {reply.body[:160]!r}"
    return _problem_of_error(reply) if reply.status >= 400 else None


def _problem_of_error(reply: Reply) -> str | None:
    try:
        document: Any = msgspec.json.decode(reply.body)
        inner = document["error"] if isinstance(document.get("error"), dict) else document
        fits = STATUS[inner["code"]] == reply.status and bool(inner["request_id"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        return f"{reply.status}, and no error of ours: {reply.body[:160]!r}"
    if reply.status in (429, 503) and "retry-after" not in reply.headers:
        return f"{reply.status} without Retry-After"
    return None


class Kept:
    """A connection kept across requests, as most refusals leave it open; reopened when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None

    def ask(self, request: bytes) -> Reply:
        """Sends one whole request and returns its response."""
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port), timeout=LATEST_S)
        self._connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", data[: data.index(b"\r\n\r\n") + 2], re.IGNORECASE)
        whole = data.index(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
        while len(data) < whole:
            data += self._more()
        [reply] = read_replies(data)
        if reply.headers.get("connection") == "close":
            self.end()
        return reply

    def _more(self) -> bytes:
        assert self._connection is not None
        part = self._connection.recv(65536)
        if not part:
            self.end()
            raise ConnectionError("the connection ended without an answer")
        return part

    def end(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
