"""Keeps the event loop polling for a moment after each response, where that pays off.

Being woken by the kernel costs a request some 30 µs on the machines this was measured on, as much as its decision. If
the next request comes at once (from a simulator that steps as fast as it can, or many cars), the loop is still polling.
After a few misses in a row it stops polling for a while: a car that sends twenty requests a second costs nothing.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop

MAX_MISSES = 4
"""Misses in a row before polling stops for REST_TURNS responses."""
REST_TURNS = 64


class BusyPoll:
    """Keeps one event loop polling for requests."""

    def __init__(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._until = 0.0
        self._is_polling = False
        self._misses = 0
        self._rest = 0 if seconds else -1

    def answered(self) -> None:
        """To be called at the end of each iteration of the event loop that answered something."""
        if self._rest:
            self._rest -= self._rest > 0
            return
        self._until = time.perf_counter() + self._seconds
        if self._is_polling:
            self._misses = 0
        else:
            self._is_polling = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        if time.perf_counter() < self._until:
            self._loop.call_soon(self._poll)
            return
        self._is_polling = False
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._misses, self._rest = 0, REST_TURNS
