"""Sends bytes to a server, and checks what comes back."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks.support.connection import PART
from benchmarks.support.responses import Response, ResponseReader
from serve.errors import STATUS

MARK = b"HoStIlE"
"""Put into requests wherever a response might repeat it; no response may."""
INNER = re.compile(rb"Traceback|site-packages|\.py\b|/home/|/root/|/usr/|0x[0-9a-f]{8}|File \"")
"""Internals that may appear only in a log."""
LATEST_S = 20.0
NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


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


def say(port: int, sent: bytes | Iterable[bytes], closes: bool = True) -> list[Response]:
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
        reader = ResponseReader()
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(PART):
                reader.feed(part)
        reader.end()
    return list(reader.found)


def judge(case: Case, responses: list[Response]) -> str | None:
    """What is wrong with the responses; None when nothing is."""
    if not responses:
        return None if case.may_end else "the connection ended without an answer"
    if case.is_last and len(responses) > 1:
        return f"went on answering: {[response.status for response in responses]}"
    return judge_one(responses[0], case.allowed)


def judge_one(response: Response, allowed: frozenset[int]) -> str | None:
    """What is wrong with one response; None when nothing is."""
    if response.status not in allowed:
        return f"{response.status} {response.body[:160]!r}"
    said = repr(response.headers).encode() + response.body
    if MARK.lower() in said.lower():
        return f"{response.status}, and repeats what was sent"
    if INNER.search(said):
        return f"{response.status}, and tells what is inside: {response.body[:160]!r}"
    return _problem_of_error(response) if response.status >= 400 else None


def _problem_of_error(response: Response) -> str | None:
    try:
        document: Any = msgspec.json.decode(response.body)
        inner = document["error"] if isinstance(document.get("error"), dict) else document
        fits = STATUS[inner["code"]] == response.status and bool(inner["request_id"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        return f"{response.status}, and no error of ours: {response.body[:160]!r}"
    if response.status in (429, 503) and "retry-after" not in response.headers:
        return f"{response.status} without Retry-After"
    return None
