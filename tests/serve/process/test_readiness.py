"""When a server of several workers says that it is ready: at its start, when a worker is replaced, at SIGHUP."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpcore
import msgspec
import psutil
import pytest
from following_support import until
from patience import PATIENCE_S
from tests_support import Server

Start = Callable[..., Server]
KINDS = ("loop", "gthread")
BODY = b'{"observations":[{"speed":6,"steering":0,"sensors":[1,1,1,1,1,1,1,1,1,1,1,1]}]}'


def ask(server: Server, path: str = "/readyz") -> httpcore.Response:
    """On a connection of its own."""
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    body = BODY if path.startswith("/predict") else None
    return httpcore.request("POST" if body else "GET", server.url + path, headers=headers, content=body)


def message(server: Server, path: str = "/readyz") -> str:
    """Of its refusal."""
    error = msgspec.json.decode(ask(server, path).content)["error"]
    return str(error if isinstance(error, str) else error["message"])


def new_workers(server: Server, count: int, before: list[psutil.Process]) -> list[psutil.Process]:
    """Waits until so many have been started."""
    ends = time.monotonic() + PATIENCE_S
    while len(found := [each for each in psutil.Process(server.process.pid).children() if each not in before]) < count:
        assert time.monotonic() < ends, server.log.read_text()
        time.sleep(0.001)
    return found


def asked(server: Server, seconds: float, path: str = "/predict") -> Counter[int]:
    """What requests on new connections get, without a pause, and how often."""
    found, ends = Counter[int](), time.monotonic() + seconds
    while time.monotonic() < ends:
        found[ask(server, path).status] += 1
    return found


@pytest.fixture(params=KINDS)
def flags(request: pytest.FixtureRequest, example: Path) -> tuple[str, ...]:
    return "--model", str(example), "--workers", "2", "--worker-class", request.param


def test_a_new_server_is_not_ready_before_its_last_worker_is(start_server: Start, flags: tuple[str, ...]):
    server = start_server(*flags)
    _, second = new_workers(server, 2, [])
    second.suspend()
    server.wait_alive()
    until(lambda: "1 of 2 workers are ready" in message(server), server)
    for path in ("/ping", "/health", "/v2/health/ready", "/v2/models/racetrack-policy/ready"):
        assert "1 of 2 workers are ready" in message(server, path)
    second.resume()
    server.wait_ready()
    assert asked(server, 0.5).keys() == {200}


def test_a_worker_that_takes_the_place_of_another_accepts_nothing_before_it_is_ready(
    start_server: Start, flags: tuple[str, ...]
):
    server = start_server(*flags)
    server.wait_ready()
    server.pool.close()
    before = new_workers(server, 2, [])
    before[0].kill()
    [third] = new_workers(server, 1, before)
    third.suspend()
    until(lambda: not before[0].is_running(), server)
    assert asked(server, 1).keys() == {200}
    answer = ask(server)
    assert "1 of 2 workers are ready" in msgspec.json.decode(answer.content)["warnings"]
    third.resume()
    until(lambda: "1 of 2" not in ask(server).content.decode(), server)


def test_a_reload_ends_no_worker_before_a_new_one_is_ready(start_server: Start, flags: tuple[str, ...]):
    server = start_server(*flags, "--drain-s", "0.1")
    server.wait_ready()
    server.pool.close()
    before = new_workers(server, 2, [])
    server.process.send_signal(signal.SIGHUP)
    started = new_workers(server, 2, before)
    for worker in started:
        worker.suspend()
    assert asked(server, 3).keys() == {200}
    assert asked(server, 0.1, "/readyz").keys() == {200}
    for worker in started:
        worker.resume()
    while any(worker.is_running() for worker in before):
        assert asked(server, 0.1).keys() == {200}
    assert new_workers(server, 2, []) == started


@pytest.mark.slow
def test_from_the_first_time_that_a_server_is_ready_on_no_request_is_refused(start_server: Start, example: Path):
    for _ in range(20):
        server = start_server("--model", str(example), "--workers", "2")
        server.wait_ready()
        assert asked(server, 0.5).keys() == {200}
        assert asked(server, 0.1, "/readyz").keys() == {200}
        server.stop()
