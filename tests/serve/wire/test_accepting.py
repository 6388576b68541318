"""Which worker a connection falls to, and what happens when there is no room for another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE_S
from tests_support import Server

from benchmarks.failures.half_sent import HalfSentHeads
from benchmarks.support.requests import http_request
from serve.policy.slot import Slot
from serve.wire.acceptor import Acceptor
from serve.wire.connection_counts import ConnectionCounts

Start = Callable[..., Server]
BODY = b'{"observations":[{"speed":6,"steering":0,"sensors":[1,1,1,1,1,1,1,1,1,1,1,1]}]}'
REQUEST = http_request("/predict", BODY, "application/json")


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def held(process: psutil.Process) -> int:
    return sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))


@contextlib.contextmanager
def open_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """So many, each of which was answered once."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            address = "127.0.0.1", int(server.url.rpartition(":")[2])
            found.append(stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S)))
            assert ask(found[-1])
        yield found


@contextlib.contextmanager
def open_evenly(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """The same, half of them at each of two workers: tried again, as one that waits for a core is not waited for."""
    for _ in range(50):
        with open_connections(server, count) as found:
            if [held(worker) for worker in workers(server)] == [count // 2] * 2:
                yield found
                return
        wait_for(lambda: sum(map(held, workers(server))) == 0)
    raise AssertionError("never half")


def ask(connection: socket.socket) -> bool:
    connection.sendall(REQUEST)
    return connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.fixture
def pair(start_server: Start, example: Path) -> Server:
    """Two workers, both of which take connections by now."""
    server = start_server("--model", str(example), "--workers", "2")
    server.wait_ready()
    server.pool.close()
    wait_for(lambda: shared(server) == [1, 1])
    return server


def shared(server: Server) -> list[int]:
    """What each worker holds of two new connections, beside what it held."""
    before = {worker: held(worker) for worker in workers(server)}
    with open_connections(server, 2):
        return [held(worker) - was for worker, was in before.items()]  # not of one that has come meanwhile


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize("count", [2, 20])
def test_each_of_two_workers_holds_half_of_the_connections(pair: Server, count: int):
    differences = []
    for _ in range(5):  # one that waits for a core for milliseconds is not waited for
        with open_connections(pair, count):
            first, second = (held(worker) for worker in workers(pair))
            differences.append(abs(first - second))
        wait_for(lambda: sum(map(held, workers(pair))) == 0)
    assert sorted(differences)[2] == 0


def test_a_worker_that_replaces_a_killed_one_gets_the_next_connections(pair: Server):
    with open_evenly(pair, 4) as before:
        killed, _ = workers(pair)
        killed.send_signal(signal.SIGKILL)
        wait_for(lambda: len(workers(pair)) == 2 and killed not in workers(pair))
        wait_for(lambda: shared(pair) == [0, 2])  # kept holds two, so both go to the new one, once it is ready
        assert sum(ask(connection) for connection in before if not gone(connection)) == 2


def gone(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        connection.settimeout(60)


class Held(asyncio.Protocol):
    """A connection that is counted for as long as it lasts, and answers nothing."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._acceptor.connections.add(self)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.connections.discard(self)  # type: ignore[arg-type]
        self._acceptor.publish()


def test_a_worker_that_left_a_connection_to_others_takes_it_once_it_holds_no_more_than_they(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serve.wire.acceptor.LEFT_TO_OTHERS_S", 3600.0)
    asyncio.run(leaves_one_and_takes_it(tmp_path))


async def leaves_one_and_takes_it(tmp_path: Path) -> None:
    shares, slot = ConnectionCounts(), Slot(tmp_path)
    slot.ready = True
    shares.hold(shares.give_place(), 0)  # another worker, which holds none and takes none
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Acceptor(asyncio.get_running_loop(), [listener], set())
        acceptor.start(lambda: Held(acceptor), None, 5.0, shares, shares.give_place(), slot)  # type: ignore[arg-type]
        address = listener.getsockname()
        with socket.create_connection(address) as first:
            await happens(lambda: acceptor.held == 1)
            with socket.create_connection(address):
                await happens(lambda: bool(acceptor._left))
                assert acceptor.held == 1
                first.close()
                await happens(lambda: not acceptor._left and acceptor.held == 1)
            await happens(lambda: acceptor.held == 0)
        acceptor.stop()


async def happens(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_when_no_more_files_can_be_opened_half_sent_requests_make_room_and_idle_clients_stay(
    start_server: Start, example: Path
):
    server = start_server("--model", str(example))
    server.wait_ready()
    [worker] = workers(server)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (120, 120))
    address = "127.0.0.1", int(server.url.rpartition(":")[2])
    with open_connections(server, 20) as cars, contextlib.ExitStack() as stack:
        for number in range(300):
            slow = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
            with contextlib.suppress(OSError):  # ended already
                slow.sendall(b"GET /readyz HTTP/1.1\r\nHo" if number % 3 else b"")
        assert all(ask(car) for car in cars)
        with open_connections(server, 10):
            assert server.get("/readyz").status == 200  # which reads files
        assert all(ask(car) for car in cars)
        assert "too many open files: closed" in server.log.read_text()


def test_half_sent_requests_that_begin_anew_as_soon_as_they_are_ended_keep_no_car_waiting(
    start_server: Start, example: Path
):
    server = start_server("--model", str(example))
    server.wait_ready()
    [worker] = workers(server)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (256, 256))
    with open_connections(server, 20) as cars, HalfSentHeads(int(server.url.rpartition(":")[2]), 400) as attack:
        for ended in range(400, 4000, 100):  # there is no room from the first on
            wait_for(lambda ended=ended: attack.ended > ended)
            assert all(ask(car) for car in cars)
            with open_connections(server, 1):
                pass
    assert "too many open files: closed" in server.log.read_text()


def test_a_server_may_open_as_many_files_as_the_machine_lets_it(start_server: Start, example: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 64  # this process has those of other tests open
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(few, hard), hard))
    try:
        server = start_server("--model", str(example))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait_ready()
    [worker] = workers(server)
    assert resource.prlimit(worker.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_when_no_more_files_can_be_opened_idle_connections_make_room(start_server: Start, example: Path):
    server = start_server("--model", str(example))
    server.wait_ready()
    [worker] = workers(server)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (100, 100))
    with open_connections(server, 300) as connections:
        assert ask(connections[-1])
        assert "too many open files: closed" in server.log.read_text()
