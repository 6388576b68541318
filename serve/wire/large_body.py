"""A large body of a known length: received straight into its final buffer, and not copied on the event loop."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable

import numpy as np

LARGE_BYTES = 64 * 1024
"""Bodies of this size or more are received in this way."""
MAPPED_BYTES = 4 * 1024 * 1024
"""From this size on the buffer is mapped from the kernel, and returned to it with the request."""
_MAX_AT_ONCE = 256 * 1024
_HUGE_PAGES_FROM = 2 * 1024 * 1024
"""Huge pages are requested when this much has come: earlier, a client that sends one byte would cost a huge page."""


class LargeBody:
    """A buffer that takes what arrives. The system provides its memory only as it is written."""

    def __init__(self, length: int) -> None:
        self._mapped = None
        if length >= MAPPED_BYTES:
            self._mapped = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._room = np.empty(length, np.uint8).data if self._mapped is None else memoryview(self._mapped)
        self._got = 0

    def feed(self, data: bytes) -> bytes | None:
        """Takes received bytes; returns those left over when the body is whole, else None."""
        taken = min(len(data), len(self._room) - self._got)
        self._room[self._got : self._got + taken] = data[:taken]
        return data[taken:] if self.took(taken) else None

    def space(self) -> memoryview:
        """Where the next bytes are to be written; never empty before the body is whole."""
        return self._room[self._got : self._got + _MAX_AT_ONCE]

    def took(self, count: int) -> bool:
        """Counts bytes written to `space`; returns whether the body is whole."""
        before, self._got = self._got, self._got + count
        if self._mapped is not None and before < _HUGE_PAGES_FROM <= self._got:
            self._mapped.madvise(mmap.MADV_HUGEPAGE)
        return self._got == len(self._room)

    def whole(self) -> memoryview:
        """The body, as a writable view."""
        return self._room


class BodyReceiver(asyncio.BufferedProtocol):
    """Takes the place of a connection's protocol while a large body arrives."""

    def __init__(self, connection: asyncio.Protocol, body: LargeBody, filled: Callable[[int], None]) -> None:
        """`filled` is called with the number of bytes received; `connection` gets all other events."""
        self._connection, self._body, self._filled = connection, body, filled

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._body.space()

    def buffer_updated(self, nbytes: int) -> None:
        self._filled(nbytes)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
