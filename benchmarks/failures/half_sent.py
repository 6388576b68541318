"""A cheap attack: connections that send half a request head, and are opened again as soon as the server closes them."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
from multiprocessing.synchronize import Event
from typing import Any

from benchmarks.failures.slow_clients import UNFINISHED_HEAD, allow_all_files

LOOK_S = 0.05
_OVER = select.EPOLLIN | select.EPOLLRDHUP


class HalfSentHeads:
    """A context manager: another process holds connections with half-sent heads, and reopens each that is closed."""

    def __init__(self, port: int, count: int) -> None:
        """Args: port on 127.0.0.1; number of connections held at any moment."""
        spawn = multiprocessing.get_context("spawn")
        self._stop, self._ended = spawn.Event(), spawn.Value("q", 0)
        self._process = spawn.Process(target=_attack, args=(port, count, self._stop, self._ended), daemon=True)

    @property
    def ended(self) -> int:
        """How many connections the server has ended; each was opened again."""
        return int(self._ended.value)

    def __enter__(self) -> HalfSentHeads:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join()
        if self._process.exitcode:
            raise RuntimeError(f"the attack ended with exit code {self._process.exitcode}; see above")


def _attack(port: int, count: int, stop: Event, ended: Any) -> None:
    allow_all_files()
    poll, held = select.epoll(), dict[int, socket.socket]()
    while not stop.is_set():
        while len(held) < count and (begun := _begin(port)) is not None:
            held[begun.fileno()] = begun
            poll.register(begun, select.EPOLLOUT | _OVER)
        for number, event in poll.poll(LOOK_S):
            if event == select.EPOLLOUT:
                with contextlib.suppress(OSError):  # closed already, which the next poll reports
                    held[number].send(UNFINISHED_HEAD)
                poll.modify(number, _OVER)
            else:
                poll.unregister(number)
                held.pop(number).close()
                ended.value += 1


def _begin(port: int) -> socket.socket | None:
    """A connection that is being opened; None while the machine has no free port for it."""
    begun = socket.socket()
    begun.setblocking(False)
    try:
        begun.connect(("127.0.0.1", port))
    except BlockingIOError:
        return begun
    except OSError:
        begun.close()
        return None
    return begun
