"""The ring in shared memory by which a worker hands its rows to the processes that read them.

One file a worker, one producer, any number of readers that the producer does not know. It never waits: it overwrites
the oldest block, and a reader that was overtaken sees by the sequence numbers how many rows it lost.

    4096 bytes   the head: eight or more uint64, see the indices below
    capacity     blocks, each of a header (see HEADER) and its payload, at a multiple of ALIGN bytes

Positions count bytes since the beginning and never wrap; a block lies at its position modulo the capacity, in one
piece. TAIL is moved on before anything is overwritten, HEAD once a block is whole: what a reader has copied is good
if TAIL is not behind it afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from carla_mlflow.errors import CarlaMlflowError

MAGIC = 0x31474E4952564C43
HEAD_BYTES, ALIGN = 4096, 64
MAGIC_AT, CAPACITY, PID, HEAD, TAIL, CLOSED, NEXT = range(7)
HEADER = struct.Struct("=IIQII32s")
"""Of a block: its size with header and padding, bytes of its payload (FILLER: none, the next block lies at the
beginning), its first row's sequence number, its rows, flags, the policy's digest."""
FILLER = 0xFFFFFFFF
OBSERVED, ACTED, FAILED = 1, 2, 4
"""Flags of a block: whether it has the columns of the observation, and those of the action; a block that FAILED has
nothing but the number of rows that the worker could not encode."""
SMALLEST = 1 << 20
"""Bytes below which a ring is not worth having."""
SUFFIX = ".ring"

log = logging.getLogger("serve.record")


class RingError(CarlaMlflowError):
    """There is no ring: no memory for it, or the file is none."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Some consecutive rows of one worker and one policy.

    Attributes:
        digest: of the policy, 64 hex digits.
        worker: process id.
        first: sequence number of the first row.
        rows: number of rows.
        flags: OBSERVED and ACTED.
        payload: a record batch; `serve.record.blocks` decodes it.
    """

    digest: str
    worker: int
    first: int
    rows: int
    flags: int
    payload: bytes


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

    def append(self, digest: bytes, rows: int, flags: int, payload: memoryview | bytes) -> None:
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


class RingReader:
    """A reader's side, with a position of its own.

    Attributes:
        name: of the ring, unique among all workers.
        worker: process id of the producer.
        sequence: of the next row.
        lost: rows that were overwritten before this reader came to them.
        failed: rows that the worker could not encode.
    """

    def __init__(self, path: Path, sequence: int | None = 0) -> None:
        """Opens a ring, to be read from its row `sequence`; None: only what comes from now on.

        Raises:
            RingError: it is none.
        """
        try:
            with path.open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RingError(f"{path}: {error}") from error
        self._view = memoryview(self._memory)
        self._words = self._view[:HEAD_BYTES].cast("Q")
        if self._words[MAGIC_AT] != MAGIC:
            raise RingError(f"{path}: is no ring of this release")
        self.name, self.worker = path.stem, self._words[PID]
        self.lost = self.failed = 0
        self._capacity, self._at = self._words[CAPACITY], 0
        if sequence is None:
            sequence = self._words[NEXT]  # before HEAD: a block between the two is then only passed over
            self._at = self._words[HEAD]
        self.sequence = sequence

    @property
    def is_closed(self) -> bool:
        """Whether the producer has ended in order; what it wrote before may still be unread."""
        return bool(self._words[CLOSED])

    @property
    def missing(self) -> int:
        """Rows that the producer has counted, and that this reader has neither read nor lost yet."""
        return max(0, self._words[NEXT] - self.sequence)

    @property
    def behind(self) -> int:
        """Bytes that are not read yet."""
        return self._words[HEAD] - max(self._at, self._words[TAIL])

    def read(self, most: int = 8 << 20) -> Iterator[Block]:
        """Yields what is new, about `most` bytes of it. Rows that were lost are counted before the next block comes."""
        taken = 0
        while taken < most and self._at < self._words[HEAD]:
            self._at = max(self._at, self._words[TAIL])
            start = HEAD_BYTES + self._at % self._capacity
            size, length, first, rows, flags, digest = HEADER.unpack_from(self._memory, start)
            payload = b""
            if length != FILLER and length <= self._capacity and first + rows > self.sequence:
                payload = bytes(self._view[start + HEADER.size : start + HEADER.size + length])
            if self._words[TAIL] > self._at:
                continue  # overwritten meanwhile, the header too
            self._at += size
            if length == FILLER or first + rows <= self.sequence:
                continue
            self.lost += max(0, first - self.sequence)
            self.sequence = first + rows
            taken += size
            if flags & FAILED:
                self.failed += rows
                continue
            yield Block(digest.hex(), self.worker, first, rows, flags, payload)

    def close(self) -> None:
        """Unmaps the file."""
        self._words.release()
        self._view.release()
        self._memory.close()


def rings_in(folder: Path) -> list[Path]:
    """The rings of all workers of a server."""
    return sorted(folder.glob("*" + SUFFIX))


def _reserve(file: int, capacity: int) -> int:
    """Reserves the memory: a page that is missing later would end the worker by a signal (SIGBUS)."""
    while capacity >= SMALLEST:
        with contextlib.suppress(OSError):
            os.posix_fallocate(file, 0, HEAD_BYTES + capacity)
            return capacity
        os.ftruncate(file, 0)
        capacity //= 2
    raise RingError("there is no memory for a ring; a container may want a larger --shm-size")
