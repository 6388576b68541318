"""Slow clients: idle ones, ones that send a head or a body slowly, and ones that never read their responses."""

from __future__ import annotations

import contextlib
import resource
import socket
import time

import msgspec

from benchmarks.support.requests import http_request

DRIP_S = 0.5
OPEN_S = 20.0
SPARE_FILES = 500
UNFINISHED_HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def allow_all_files() -> int:
    """Lets this process open as many files as it may; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_connections(port: int, count: int, receive_buffer: int = 0) -> list[socket.socket]:
    """Opens up to `count` connections, as many as this process may and the server accepts within OPEN_S."""
    most = allow_all_files() - SPARE_FILES
    opened, ends = [], time.monotonic() + OPEN_S
    while len(opened) < min(count, most) and time.monotonic() < ends:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(2)
        try:
            connection.connect(("127.0.0.1", port))
        except OSError:
            connection.close()
            continue
        connection.setblocking(False)
        opened.append(connection)
    return opened


def hold(connections: list[socket.socket], seconds: float, sends: bytes = b"") -> int:
    """Keeps connections open for `seconds`, sending one byte of `sends` on each every half second, then closes them.

    Returns:
        How many of them the server ended.
    """
    ends, ended, turn = time.monotonic() + seconds, set(), 0
    while time.monotonic() < ends:
        if turn < len(sends):
            for number, connection in enumerate(connections):
                if number not in ended:
                    with contextlib.suppress(OSError):
                        connection.send(sends[turn : turn + 1])
            turn += 1
        time.sleep(DRIP_S)
        ended |= {number for number, each in enumerate(connections) if number not in ended and _is_over(each)}
    for connection in connections:
        connection.close()
    return len(ended)


def _is_over(connection: socket.socket) -> bool:
    try:
        return not connection.recv(65536) or _is_over(connection)
    except BlockingIOError:
        return False
    except OSError:
        return True


def ask_unread(connections: list[socket.socket], body: bytes, seconds: float) -> tuple[int, int]:
    """Sends requests on every connection about twice a second, as far as the server reads them, and reads nothing.

    Returns:
        How many requests were sent, and how many connections the server ended.
    """
    request = http_request("/predict", body, "application/json")
    left = dict.fromkeys(connections, b"")
    sent, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(DRIP_S / 10)
        for connection, rest in list(left.items()):
            time.sleep(DRIP_S / len(connections))  # spread out, as all at once would be a load of its own
            try:
                rest = rest or request
                left[connection] = rest[connection.send(rest) :]
                sent += not left[connection]
            except BlockingIOError:
                continue
            except OSError:
                del left[connection]
    for connection in connections:
        connection.close()
    return sent, len(connections) - len(left)


def long_answer(body: bytes, rows: int) -> bytes:
    """A request body of `rows` rows whose response is as long as possible, with details of each row."""
    [first, *_] = msgspec.json.decode(body)["observations"]
    return msgspec.json.encode({"observations": [first] * rows, "details": True})
