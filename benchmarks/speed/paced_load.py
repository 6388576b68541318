"""Loads a server as vehicles do: each connection asks so many times a second, and so leaves the server time to spare.

A load that sends the next request after each response fills all cores, and its slowest requests are those that waited
for a core: what else the machine does, it does in their stead. At a pace below that, a request waits only for what
really keeps the server from it.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import selectors
import time
from pathlib import Path

from benchmarks.speed.own_load import LATE_S, PART, read_requests
from benchmarks.speed.wrk import Found, Load, load
from benchmarks.support.connection import Address, connect
from benchmarks.support.percentiles import median, p99
from benchmarks.support.responses import ResponseReader
from carla_mlflow.cli import positive


def add_hz(parser: argparse.ArgumentParser) -> None:
    """Adds --hz, by which `load_at` chooses."""
    parser.add_argument(
        "--hz",
        type=positive(float),
        help="each connection asks so often a second (default: after each response, by wrk)",
    )


def load_at(hz: float | None) -> Load:
    """wrk, which fills all cores; or at that pace."""
    return load if hz is None else functools.partial(paced_load, hz=hz)


def paced_load(address: Address, requests: Path, connections: int, seconds: float, hz: float) -> Found:
    """As `wrk.load`, from this thread, at a pace.

    Args:
        address: the server's port on 127.0.0.1, or its Unix socket.
        requests: the file that `wrk.write_requests` made.
        connections: how many.
        seconds: how long.
        hz: requests a second of each connection; it sends none before the response to the last.

    Raises:
        RuntimeError: the server can't be reached, or closed a connection.
    """
    try:
        return _load(address, requests, connections, seconds, hz)
    except OSError as error:
        raise RuntimeError(f"{address}: {error}") from error


def _load(address: Address, file: Path, connections: int, seconds: float, hz: float) -> Found:
    requests, selector = read_requests(file), selectors.DefaultSelector()
    began, turn, failed = time.perf_counter(), 0, 0
    waiting: list[tuple[float, int]] = []  # when each connection asks next, and its descriptor
    sent: dict[int, tuple[float, float]] = {}  # when a request was due, and when it was sent
    latencies: list[float] = []
    for number in range(connections):
        opened = connect(address, LATE_S)
        selector.register(opened, selectors.EVENT_READ, ResponseReader())
        waiting.append((began + number / connections / hz, opened.fileno()))
    ends = began + seconds
    while (now := time.perf_counter()) < ends:
        while waiting and waiting[0][0] <= now:
            due, number = heapq.heappop(waiting)
            sent[number] = due, time.perf_counter()
            selector.get_key(number).fileobj.sendall(requests[turn % len(requests)])
            turn += 1
        for key, _ in selector.select(max(0.0, min(ends, waiting[0][0] if waiting else ends) - now)):
            if not (part := key.fileobj.recv(PART)):
                raise ConnectionError("the server closed a connection")
            key.data.feed(part)
            if key.data.found:
                failed += key.data.found.popleft().status != 200
                due, at = sent.pop(key.fd)
                now = time.perf_counter()
                latencies.append(1e3 * (now - at))
                heapq.heappush(waiting, (max(due + 1 / hz, now), key.fd))
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    selector.close()
    return Found(len(latencies), time.perf_counter() - began, median(latencies), p99(latencies), failed)
