"""Runs forwards that take long, and large bodies, beside the event loop: in chunks, one thread per core.

A long forward would delay all other requests, so the executor takes one chunk of each request in turn. A request
whose budget ends while it waits is answered then.
"""

from __future__ import annotations

import contextlib
import threading
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from serve.answering.forward import BatchActions
from serve.answering.prediction import too_late
from serve.batching.chunked_job import CHUNK_MS, ChunkedJob
from serve.batching.micro_batcher import CLIENT_GONE
from serve.batching.pending_prediction import Outcomes, PendingPrediction
from serve.cores import usable_cores
from serve.errors import ApiError

AHEAD_MS = 2 * CHUNK_MS
"""Milliseconds of work handed to each thread: its chunk and the next, so that it need not wait for the event loop."""
STOP_S = 1.0
"""Seconds to wait for each thread: one in native code would crash the exiting interpreter. A hung thread is left."""
DECODED_AT_ONCE_BYTES = 64 * 1024
"""Bodies up to this size are decoded at once, so that their budget is known. Binary tensors cost little at any size."""


class ChunkedExecutor:
    """Hands chunks to threads. Everything except the chunks themselves runs on the event loop.

    Attributes:
        on_hang: called when a chunk hangs.
        hangs: whether that has happened.
    """

    def __init__(self, loop: AbstractEventLoop, outcomes: Outcomes) -> None:
        self._loop, self._outcomes = loop, outcomes
        self._threads = usable_cores()
        self._waiting: SimpleQueue[tuple[int, ChunkedJob, int, int] | None] = SimpleQueue()
        self._pool: list[threading.Thread] = []
        self._stopped = False
        self._jobs: deque[ChunkedJob] = deque()  # with rows that no thread has yet
        self._handed: dict[
            int, tuple[ChunkedJob, float]
        ] = {}  # chunks that threads work on or take next, with their milliseconds
        self._handed_ms = 0.0
        self._since: dict[int, float] = {}  # when a thread began each chunk
        self._number = 0
        self.hangs = False
        self.on_hang: Callable[[], None] = lambda: None

    def add(self, prediction: PendingPrediction) -> None:
        """Queues a prediction, which is then answered chunk by chunk."""
        job, parsed = ChunkedJob(prediction), prediction.wire.parsed
        if self.hangs:
            self._give_up(job, _replaced())
            return
        is_small = len(prediction.encoded.body) <= DECODED_AT_ONCE_BYTES or prediction.encoded.json_bytes is not None
        if prediction.request is None and is_small and parsed is not None and not parsed.gzip:
            try:
                prediction.decode()
            except Exception as error:  # the boundary: the error affects only this request
                self._give_up(job, error)
                return
        self._keep_time(job)
        self._jobs.append(job)
        self._dispatch()

    def _keep_time(self, job: ChunkedJob) -> None:
        """Starts the timer that answers a job when its budget is over."""
        if job.prediction.ends < float("inf"):
            left = job.prediction.ends - time.perf_counter()
            job.stop_clock()
            job.clock = self._loop.call_later(max(left, 0.0), self._late, job)

    def _late(self, job: ChunkedJob) -> None:
        if not job.over:
            self._give_up(job, too_late(job.prediction.serving))

    def _dispatch(self) -> None:
        while self._jobs and self._has_room():
            job = self._jobs.popleft()
            if job.over:
                continue
            if job.prediction.wire.connection.gone:
                job.end()
                self._outcomes.forget(job.prediction, CLIENT_GONE)
                continue
            if time.perf_counter() >= job.prediction.ends:
                self._late(job)
                continue
            start, stop = job.next_chunk()
            if job.has_more:
                self._jobs.append(job)
            self._number += 1
            cost_ms = job.prediction.serving.forward_times.ms(stop - start)
            self._handed[self._number] = job, cost_ms
            self._handed_ms += cost_ms
            self._start()
            self._waiting.put((self._number, job, start, stop))

    def _has_room(self) -> bool:
        return len(self._handed) < self._threads or self._handed_ms < AHEAD_MS * self._threads

    def _start(self) -> None:
        """Starts the threads, if they do not run yet."""
        while len(self._pool) < self._threads:
            self._pool.append(threading.Thread(target=self._go, name=f"forward_{len(self._pool)}", daemon=True))
            self._pool[-1].start()

    def _go(self) -> None:
        while (chunk := self._waiting.get()) is not None:
            if self._stopped:
                return
            self._since[chunk[0]] = time.monotonic()
            with contextlib.suppress(RuntimeError):  # the event loop is closed: no client waits
                self._work(*chunk)
            del chunk  # else its request stays in memory until the next chunk

    def _work(self, number: int, job: ChunkedJob, start: int, stop: int) -> None:
        done: BatchActions | Exception | None = None
        try:
            if not job.over:
                job.prediction.started = job.prediction.started or time.perf_counter()
                done = job.run(start, stop)
        except Exception as problem:  # the boundary: the error affects only this request
            done = problem
        self._loop.call_soon_threadsafe(self._worked, number, job, start, done)
        done = None  # breaks a cycle: an error holds this frame, which would keep it and the request in memory

    def _worked(self, number: int, job: ChunkedJob, start: int, done: BatchActions | Exception | None) -> None:
        self._handed_ms -= self._handed.pop(number)[1]
        self._since.pop(number, None)
        try:
            if not job.over and done is not None:
                self._advance(job, start, done)
        except Exception as problem:  # the boundary: the others are still served
            self._give_up(job, problem)
        self._dispatch()

    def _advance(self, job: ChunkedJob, start: int, done: BatchActions | Exception) -> None:
        if isinstance(done, Exception):
            self._give_up(job, done)
            return
        job.add(start, done)
        if time.perf_counter() >= job.prediction.ends:
            self._give_up(job, too_late(job.prediction.serving))
        elif job.is_complete:
            answered = job.joined()
            job.end()
            self._outcomes.send(job.prediction, answered)
        elif start == 0:  # just decoded: it may have more rows and a shorter budget than was known
            self._keep_time(job)
            if job.has_more and job not in self._jobs:
                self._jobs.append(job)

    def _give_up(self, job: ChunkedJob, error: Exception) -> None:
        job.end()
        self._outcomes.refuse(job.prediction, error)

    @property
    def oldest(self) -> float:
        """When the oldest chunk that is still running began, by `time.monotonic`; may be read from any thread."""
        return min(list(self._since.values()), default=float("inf"))

    def give_up_older_than(self, limit: float) -> None:
        """Answers the predictions whose chunks began before `limit` and so hang, and those that wait for a thread."""
        hanging = [self._handed[number][0] for number, since in list(self._since.items()) if since < limit]
        for job in hanging:
            if not job.over:
                self._give_up(job, ApiError("internal", "the forward pass took longer than --forward-timeout-s"))
        if hanging and not self.hangs:
            self.hangs = True
            handed = [job for number, (job, _) in self._handed.items() if number not in self._since]
            waiting, self._jobs = [*handed, *self._jobs], deque()
            for job in waiting:
                if not job.over:
                    self._give_up(job, _replaced())
            self.on_hang()

    def stop(self) -> None:
        """Stops the threads once their current chunks are done."""
        self._stopped = True
        for _ in self._pool:
            self._waiting.put(None)
        for thread in self._pool:
            thread.join(STOP_S)


def _replaced() -> ApiError:
    return ApiError("not_ready", "this process is being replaced; try again")
