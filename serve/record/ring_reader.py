"""A reader's side of a ring."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from serve.record.ring import (
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
    TAIL,
    Block,
    RingError,
)


class RingReader:
    """A reader's side, with a position of its own.

    Attributes:
        name: of the ring, unique among all workers.
        worker: process id of the producer.
        sequence: of the next row.
        lost: rows that were overwritten before this reader came to them.
        failed: rows that the worker could not pack.
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
