"""The threads that run chunks, one per core, and what was handed to them."""

from __future__ import annotations

import contextlib
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from queue import SimpleQueue

from serve.batching.chunk import Chunk
from serve.batching.chunked_job import CHUNK_MS, ChunkedJob
from serve.cores import usable_cores

AHEAD_MS = 2 * CHUNK_MS
"""Milliseconds of work handed to each thread ahead: its chunk and the next, so that it need not wait for the loop."""
STOP_S = 1.0
"""Seconds to wait for each thread: one in native code would crash the exiting interpreter. A hung thread is left."""


class ChunkThreads:
    """Runs chunks in the order in which they are handed over. To be used on the event loop, except where said."""

    def __init__(self, loop: AbstractEventLoop, finished: Callable[[Chunk], None]) -> None:
        """`finished` is called on the event loop with a chunk that has run."""
        self._loop, self._finished = loop, finished
        self._count = usable_cores()
        self._waiting: SimpleQueue[tuple[int, Chunk] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._handed: dict[int, Chunk] = {}  # what threads work on or take next
        self._since: dict[int, float] = {}  # when a thread began each chunk
        self._number = 0

    def hand(self, chunk: Chunk) -> None:
        """Hands over a chunk."""
        self._number += 1
        self._handed[self._number] = chunk
        self._start()
        self._waiting.put((self._number, chunk))

    @property
    def are_busy(self) -> bool:
        """Whether there is a chunk for every thread."""
        return len(self._handed) >= self._count

    def have_room(self, ahead: bool) -> bool:
        """Whether another chunk should be handed over; `ahead` is whether a thread gets its next one before it is done.

        A thread that has its next chunk wakes the event loop and computes on: on a busy machine the loop then waits for
        that core until the scheduler's next tick, several milliseconds. A thread that has none sleeps instead.
        """
        if not ahead:
            return not self.are_busy
        return not self.are_busy or sum(chunk.ms for chunk in self._handed.values()) < AHEAD_MS * self._count

    @property
    def oldest(self) -> float:
        """When the oldest chunk that is still running began, by `time.monotonic`; may be read from any thread."""
        return min(list(self._since.values()), default=float("inf"))

    def begun_before(self, limit: float) -> list[ChunkedJob]:
        """The jobs of the chunks that began before `limit` and are still running."""
        begun = [number for number, since in list(self._since.items()) if since < limit]
        return [job for number in begun for job in self._handed[number].jobs]

    def not_begun(self) -> list[ChunkedJob]:
        """The jobs of the chunks that wait for a thread."""
        return [job for number, chunk in self._handed.items() if number not in self._since for job in chunk.jobs]

    def stop(self) -> None:
        """Stops the threads once their current chunks are done."""
        self._stopped = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(STOP_S)

    def _start(self) -> None:
        """Starts the threads, if they do not run yet."""
        while len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._run, name=f"forward_{len(self._threads)}", daemon=True))
            self._threads[-1].start()

    def _run(self) -> None:
        while (handed := self._waiting.get()) is not None:
            if self._stopped:
                return
            number, chunk = handed
            self._since[number] = time.monotonic()
            chunk.run()
            with contextlib.suppress(RuntimeError):  # the event loop is closed: no client waits
                self._loop.call_soon_threadsafe(self._ran, number)
            del handed, chunk  # else its requests stay in memory until the next chunk

    def _ran(self, number: int) -> None:
        chunk = self._handed.pop(number)
        self._since.pop(number, None)
        self._finished(chunk)
