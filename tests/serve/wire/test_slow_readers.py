"""What a client gets that pipelines and reads slowly, from a server whose watchdog answers for the loop meanwhile."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpcore
import msgspec
import numpy as np
import pytest
from following_support import metric, until
from numpy.typing import NDArray
from slow_policies import SLOW_AT, laborious
from tests_support import Server

from benchmarks.support.encoding import rows_of
from benchmarks.support.requests import http_request
from carla_mlflow import Engine
from serve.limits import MAX_BATCH_ROWS

ROUNDS = 10
ENDS = (ConnectionResetError, ssl.SSLError)
"""Of a connection; the second where a record stands in another one's place."""
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Asked(NamedTuple):
    """A request, and what the engine does there."""

    bytes: bytes
    control: NDArray[np.float32]


def large(engine: Engine, seed: int) -> Asked:
    """A request whose answer is several times as long as itself, and fills a forward."""
    return asked(engine, np.random.default_rng(seed).integers(-5, 6, (MAX_BATCH_ROWS, 16)), details=True)


def late(engine: Engine) -> Asked:
    """A request whose forward outlives its budget; the last of its connection."""
    return asked(engine, np.array([[SLOW_AT, *[0.5] * 15]]), budget_ms=60)


def asked(engine: Engine, states: NDArray[np.number], **fields: float | bool) -> Asked:
    state = states.astype(np.float32)
    body = msgspec.json.encode({"observations": rows_of({"state": state}), **fields}).replace(b".0", b"")
    last = {"Connection": "close"} if "budget_ms" in fields else {}
    return Asked(http_request("/predict", body, "application/json", **last), engine.act({"state": state}).control)


def check_whole_answers(received: bytes, requests: list[Asked]) -> list[int]:
    """The status of each; asserts that all is one answer after the other, and that only the last is cut."""
    found = []
    for request in requests:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if length is None or len(rest) < int(length[1]):
            break
        body, received = rest[: int(length[1])], rest[int(length[1]) :]
        found.append(int(head.removeprefix(b"HTTP/1.1 ").split()[0]))
        answer = msgspec.json.decode(body)
        assert found[-1] == 200 or answer["fallback"]
        if found[-1] == 200:
            given = np.array([list(action.values()) for action in answer["actions"]], dtype=np.float32)
            assert given.tobytes() == request.control.tobytes()
    check_begun_answer(received, requests[len(found)].control if len(found) < len(requests) else None)
    return found


def check_begun_answer(received: bytes, control: NDArray[np.float32] | None) -> None:
    """Asserts that what was cut is the beginning of that answer, and nothing else."""
    assert control is not None or not received
    assert b"HTTP/1.1" not in received[1:]
    assert b"HTTP/1.1 200 OK\r\n".startswith(received[:17])
    actions = received.partition(b'"actions":[')[2].partition(b"]")[0]
    given = [list(msgspec.json.decode(action).values()) for action in re.findall(rb"\{[^}]*\}", actions)]
    assert control is None or np.array(given, np.float32).tobytes() == control[: len(given)].tobytes()


def connect(server: Server, context: ssl.SSLContext | None) -> socket.socket:
    """As a client with little room for what it has not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    return connection if context is None else context.wrap_socket(connection, server_hostname="localhost")


def hear_slowly(connection: socket.socket, requests: list[Asked]) -> bytes:
    """All that is answered to a client that pipelines: it reads little while the last forward runs, then the rest."""
    for request in requests[:-2]:
        connection.sendall(request.bytes)
        time.sleep(0.05)  # each is answered by a forward of its own, as far as its answers are taken
    connection.sendall(requests[-2].bytes + requests[-1].bytes)
    received, ends = b"", time.monotonic() + 0.5
    with contextlib.suppress(*ENDS):
        while time.monotonic() < ends and (part := connection.recv(4096)):
            received += part
            time.sleep(0.002)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while part := connection.recv(1 << 20):
            received += part
    return received


def hear_all(server: Server, engine: Engine, context: ssl.SSLContext | None) -> tuple[int, int]:
    """How many late requests were told so, and how many connections ended, of some with ever more to be read before."""
    told, ended = 0, 0
    for count in range(1, 7):
        requests = [*(large(engine, seed) for seed in range(count)), late(engine)]
        with connect(server, context) as connection:
            statuses = check_whole_answers(hear_slowly(connection, requests), requests)
        assert statuses[:count] == [200] * len(statuses[:count])
        told += statuses[count:] == [504]
        ended += len(statuses) <= count
    return told, ended


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
def test_a_slow_reader_that_pipelines_gets_whole_answers_each_its_own_or_the_connection_ends(
    start_server: Callable[..., Server], tmp_path: Path, certificate: tuple[Path, Path], over_tls: bool
):
    folder, (chain, key), context = laborious(tmp_path, 0), certificate, None
    tls = ["--certfile", str(chain), "--keyfile", str(key)] if over_tls else []
    engine, server = Engine.open(folder, device="cpu"), start_server("--model", str(folder), *tls)
    if over_tls:
        context = ssl.create_default_context(cafile=str(chain))
        server.url, server.pool = server.url.replace("http:", "https:"), httpcore.ConnectionPool(context)
    server.wait_ready()
    told = ended = 0
    for _ in range(ROUNDS):  # how much the kernel takes differs, and whose turn it is
        found = hear_all(server, engine, context)
        told, ended = told + found[0], ended + found[1]
        if told and ended:
            break
    assert told
    assert ended
    late_ones = told + ended
    until(lambda: metric(server, "policy_requests_total", route="/predict", code="504") == late_ones, server)
