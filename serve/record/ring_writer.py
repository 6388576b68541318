"""The producer's side of a ring."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import threading
import time
from collections import deque
from pathlib import Path

from serve.record.ring import (
    ALIGN,
    CAPACITY,
    CLOSED,
    FAILED,
    FILLER,
    HEAD,
    HEAD_BYTES,
    HEADER,
    MAGIC,
    MAGIC_AT,
    NEXT,
    PID,
    SMALLEST,
    SUFFIX,
    TAIL,
    RingError,
)

log = logging.getLogger("serve.record")


class RingWriter:
    """The producer's side. To be used by one thread at a time."""

    def __init__(self, folder: Path, capacity: int) -> None:
        """Creates the file with its memory; with less than `capacity` bytes where there is no more.

        Raises:
            RingError: there is no memory for even a small one.
        """
        self.path = folder / f"{os.getpid()}-{time.time_ns():x}{SUFFIX}"
        beside = self.path.with_suffix(".new")
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self.capacity = _reserve(file, capacity)
            populate = getattr(mmap, "MAP_POPULATE", 0)  # else each first touch of a page would be a fault, later
            self._memory = mmap.mmap(file, HEAD_BYTES + self.capacity, flags=mmap.MAP_SHARED | populate)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._words = memoryview(self._memory)[:HEAD_BYTES].cast("Q")
        self._words[CAPACITY], self._words[PID] = self.capacity, os.getpid()
        self._words[MAGIC_AT] = MAGIC
        beside.rename(self.path)
        self._head = 0
        self._starts: deque[int] = deque()  # of the blocks that are still whole
        self._fence = threading.Lock()
        self.sequence = 0

    def append(self, digest: bytes, rows: int, flags: int, payload: bytes) -> None:
        """Appends a block; one that is too large for this ring as one that FAILED.

        Args:
            digest: of the policy, 32 bytes.
            rows: number of rows.
            flags: OBSERVED and ACTED.
            payload: bytes.
        """
        size = -(-(HEADER.size + len(payload)) // ALIGN) * ALIGN
        if size > self.capacity // 2:
            log.warning("%d rows of %d bytes are too large for the ring, and not recorded", rows, len(payload))
            size, flags, payload = ALIGN, FAILED, b""
        first, self.sequence = self.sequence, self.sequence + rows
        self._words[NEXT] = self.sequence
        at = self._head % self.capacity
        if at + size > self.capacity:
            self._make_room(self.capacity - at)
            HEADER.pack_into(self._memory, HEAD_BYTES + at, self.capacity - at, FILLER, 0, 0, 0, b"")
            self._advance(self.capacity - at)
            at = 0
        self._make_room(size)
        start = HEAD_BYTES + at
        HEADER.pack_into(self._memory, start, size, len(payload), first, rows, flags, digest)
        self._memory[start + HEADER.size : start + HEADER.size + len(payload)] = payload
        self._advance(size)

    def _make_room(self, size: int) -> None:
        """Gives up the blocks that the next `size` bytes overwrite."""
        limit, tail = self._head + size - self.capacity, -1
        while self._starts and self._starts[0] < limit:
            self._starts.popleft()
            tail = self._starts[0] if self._starts else self._head
        if tail >= 0:
            self._words[TAIL] = tail
            self._order()

    def _advance(self, size: int) -> None:
        self._starts.append(self._head)
        self._head += size
        self._order()
        self._words[HEAD] = self._head

    def _order(self) -> None:
        """Keeps processors other than x86 from writing to the memory in another order than this code does."""
        for _ in range(2):  # to release a lock and take it again is a barrier in both directions
            with self._fence:
                pass

    def close(self) -> None:
        """Tells the readers that nothing follows. The file stays for them."""
        if not self._words[CLOSED]:
            self._words[CLOSED] = 1


def _reserve(file: int, capacity: int) -> int:
    """Reserves the memory: a page that is missing later would end the worker by a signal (SIGBUS)."""
    while capacity >= SMALLEST:
        with contextlib.suppress(OSError):
            os.posix_fallocate(file, 0, HEAD_BYTES + capacity)
            return capacity
        os.ftruncate(file, 0)
        capacity //= 2
    raise RingError("there is no memory for a ring; a container may want a larger --shm-size")
