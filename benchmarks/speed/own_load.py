"""Loads a server from Python, over TCP or a Unix socket: wrk knows no Unix sockets.

It takes more of a core than wrk, so at many connections it measures itself as much as the server. Its figures may be
compared only with its own: hence `--own-load` for a port.
"""

from __future__ import annotations

import multiprocessing
import selectors
import time
from pathlib import Path

from benchmarks.speed.wrk import Found
from benchmarks.support.connection import Address, connect
from benchmarks.support.percentiles import median, p99
from benchmarks.support.responses import ResponseReader

PART = 65536
LATE_S = 60.0


def own_load(address: Address, requests: Path, connections: int, seconds: float) -> Found:
    """As `wrk.load`, from one thread of a process of its own.

    Args:
        address: the server's port on 127.0.0.1, or its Unix socket.
        requests: the file that `wrk.write_requests` made.
        connections: how many; each sends its next request after a response.
        seconds: how long.

    Raises:
        RuntimeError: the server can't be reached.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply(_load, (address, requests, connections, seconds))
        except OSError as error:
            raise RuntimeError(f"{address}: {error}") from error


def read_requests(path: Path) -> list[bytes]:
    """Reads what `wrk.write_requests` wrote."""
    found = []
    with open(path, "rb") as file:
        while line := file.readline():
            found.append(file.read(int(line)))
    return found


def _load(address: Address, file: Path, connections: int, seconds: float) -> Found:
    requests, turn = read_requests(file), 0
    selector = selectors.DefaultSelector()
    sent: dict[int, float] = {}
    latencies: list[float] = []
    failed = 0
    for _ in range(connections):
        opened = connect(address, LATE_S)
        selector.register(opened, selectors.EVENT_READ, ResponseReader())
    began = time.perf_counter()
    for key in selector.get_map().values():
        sent[key.fd] = time.perf_counter()
        key.fileobj.sendall(requests[turn % len(requests)])
        turn += 1
    while sent and time.perf_counter() - began < seconds:
        for key, _ in selector.select(1.0):
            part = key.fileobj.recv(PART)
            if not part:
                failed += 1
                selector.unregister(key.fileobj)
                key.fileobj.close()
                del sent[key.fd]
                continue
            key.data.feed(part)
            if key.data.found:
                failed += key.data.found.popleft().status != 200
                now = time.perf_counter()
                latencies.append(1e3 * (now - sent[key.fd]))
                sent[key.fd] = now
                key.fileobj.sendall(requests[turn % len(requests)])
                turn += 1
    took = time.perf_counter() - began
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    selector.close()
    return Found(len(latencies), took, median(latencies), p99(latencies), failed)
