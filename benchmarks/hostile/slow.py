"""Clients that are slow, that send too much at once, or whose time budget is over or invalid."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import msgspec

from benchmarks.failures.slow_clients import UNFINISHED_HEAD, ask_unread, hold, long_answer, open_connections
from benchmarks.hostile.framing import chunk, chunked, post
from benchmarks.hostile.saying import LATEST_S, Case, Tally, judge_one
from benchmarks.support.connection import Connection
from benchmarks.support.requests import http_request

CLIENTS, HOLD_S = 100, 8.0
TIMEOUT_S = 2
"""The attacked server's timeouts for heads and bodies, in seconds."""


def dripping(port: int, good: bytes, tally: Tally) -> None:
    """Heads, bodies and chunks that come a byte every half second, or stop: the server has to close each connection."""
    for begins, drips in (
        (b"", UNFINISHED_HEAD),
        (b"GET /healthz HTTP/1.1\r\nHo", b""),
        (post(b"", length=b"1000"), b" " * 1000),
        (post(good)[:-5], b""),
        (chunked(), chunk(b" ") * 100),
        (chunked(chunk(good))[:-9], b""),
    ):
        connections = open_connections(port, CLIENTS)
        for connection in connections:
            connection.send(begins) if begins else None
        _count(tally, len(connections), hold(connections, HOLD_S, drips), f"{begins[:20]!r}… is not ended")


def deaf(port: int, good: bytes, tally: Tally) -> None:
    """Clients that never read their responses: the server has to close each connection."""
    connections = open_connections(port, CLIENTS, receive_buffer=4096)
    _, ended = ask_unread(connections, long_answer(good, 256), HOLD_S * 2)
    _count(tally, len(connections), ended, "a client that never reads is not ended")


def idle(port: int, good: bytes, tally: Tally) -> None:
    """Two thousand idle connections: the server has to keep them."""
    connections = open_connections(port, 2000)
    ended = hold(connections, HOLD_S)
    _count(tally, len(connections), len(connections) - ended, "an idle connection was ended")


def _count(tally: Tally, tried: int, right: int, text: str) -> None:
    for number in range(tried):
        tally.add(0, None if number < right else text)


def too_many(port: int, good: bytes, tally: Tally) -> None:
    """Fifty pipelined requests on each of a hundred connections: each gets 200, or 429 with Retry-After, in order."""
    found: list[tuple[int, list[str]]] = []

    def ask() -> None:
        requests = [http_request("/predict", good, "application/json", **{"X-Request-Id": f"n{i}"}) for i in range(50)]
        with Connection(port, timeout_s=30) as connection:
            connection.send(b"".join(requests))
            for number in range(50):
                response = connection.receive()
                problem = judge_one(response, frozenset({200, 429}))
                if response.headers.get("x-request-id") != f"n{number}":
                    problem = "an answer out of order"
                found.append((response.status, [problem] if problem else []))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for status, problems in found:
        tally.add(status, problems[0] if problems else None)
    for _ in range(5000 - len(found)):
        tally.add(0, "no answer")


def budgets(port: int, good: bytes, tally: Tally) -> None:
    """Time budgets: one that is over gets the fallback, an invalid one is refused, any other gets an action."""
    document, connection = json.loads(good), Connection(port, LATEST_S)
    for value, status in ((0, 504), (1e-9, 504), (1e9, 200), (10**300, 200), (60_000, 200)):
        body = msgspec.json.encode(document | {"budget_ms": msgspec.Raw(str(value).encode())})
        _budget(connection, http_request("/predict", body, "application/json"), status, tally)
    for text, status in (("0", 504), ("0.000001", 504), ("60000", 200), ("999999999", 200), ("-1", 400), ("a", 400),
                         ("1e3", 400), ("NaN", 400), ("Infinity", 400),
                         ("9" * 40, 400), ("1,2", 400), ("", 400)):  # fmt: skip
        request = http_request("/predict", good, "application/json", **{"X-Request-Budget-Ms": text})
        _budget(connection, request, status, tally)
    connection.close()


def _budget(connection: Connection, request: bytes, status: int, tally: Tally) -> None:
    response = connection.ask(request)
    problem = judge_one(response, frozenset({status}))
    if (
        status == 504
        and not problem
        and set(msgspec.json.decode(response.body)["fallback"]) != {"throttle", "brake", "steer"}
    ):
        problem = "504 without the fallback"
    tally.add(response.status, problem)


def media_types(good: bytes) -> Iterator[Case]:
    """Media types that a good body is sent with, each of which has to be refused."""
    for text in ("", "text/html", "application/jsonx", "application/json; charset=latin-1",
                 "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/xml", "*/*",
                 "application/octet-stream", "json",
                 "application/json, text/html", "application/json;charset=utf-16", "x" * 5000):  # fmt: skip
        for path in ("/predict", "/invocations"):
            yield Case(f"{path} as {text[:30]}", http_request(path, good, text), frozenset({400, 415}))
