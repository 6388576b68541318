"""Runs forwards that take long, and large bodies, beside the event loop: in chunks, one thread per core.

A long forward would delay all other requests, so the executor takes one chunk of each request in turn. Small requests
that wait anyway share a forward where that takes less time than one forward each. A request whose budget ends while it
waits is answered then.
"""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable

from serve.answering.forward import BatchActions, BatchSlice
from serve.answering.prediction import too_late
from serve.batching.chunk import Chunk, JoinedChunk, RowsChunk, can_join
from serve.batching.chunk_threads import ChunkThreads
from serve.batching.chunked_job import ChunkedJob
from serve.batching.micro_batcher import CLIENT_GONE
from serve.batching.pending_prediction import Outcomes, PendingPrediction
from serve.errors import ApiError

DECODED_AT_ONCE_BYTES = 64 * 1024
"""Bodies up to this size are decoded at once, so that their budget is known. Binary tensors cost little at any size."""


class ChunkedExecutor:
    """Hands chunks to threads. Everything except the chunks themselves runs on the event loop.

    Attributes:
        on_hang: called when a chunk hangs.
        hangs: whether that has happened.
        loop_is_used: whether predictions are answered on the event loop, too.
    """

    def __init__(self, loop: AbstractEventLoop, outcomes: Outcomes) -> None:
        self._loop, self._outcomes = loop, outcomes
        self._threads = ChunkThreads(loop, self._ran)
        self._jobs: deque[ChunkedJob] = deque()  # with rows that no thread has yet
        self._open: JoinedChunk | None = None  # the one handed over last, which others may join
        self.hangs = False
        self.on_hang: Callable[[], None] = lambda: None
        self.loop_is_used: Callable[[], bool] = lambda: False

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
        if not self._joins(job):
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
        while self._jobs and self._threads.have_room(ahead=not self.loop_is_used()):
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
            self._threads.hand(self._chunk_of(job))

    def _joins(self, job: ChunkedJob) -> bool:
        """Adds a job to what was handed over last, if all threads are busy, none waits before it, and it fits."""
        chunk = self._open
        return chunk is not None and not self._jobs and self._threads.are_busy and chunk.join(job)

    def _chunk_of(self, job: ChunkedJob) -> Chunk:
        """The next chunk of a job, or one with others that wait behind it."""
        if not can_join(job):
            rows = RowsChunk(job)
            if job.has_more:
                self._jobs.append(job)
            return rows
        self._open = chunk = JoinedChunk(job)
        while self._jobs and chunk.join(self._jobs[0]):  # they waited: all threads were busy
            self._jobs.popleft()
        return chunk

    def _ran(self, chunk: Chunk) -> None:
        if chunk is self._open:
            self._open = None  # else its requests, and their policy, would stay in memory
        if isinstance(chunk, JoinedChunk):
            for job, outcome in chunk.outcomes:
                self._guarded(job, self._answer, outcome)
        elif isinstance(chunk, RowsChunk) and (done := chunk.done) is not None:
            chunk.done = None  # breaks a cycle: an error holds the frames that hold the chunk
            self._guarded(chunk.jobs[0], self._advance, chunk.start, done)
        self._dispatch()

    def _guarded(self, job: ChunkedJob, then: Callable[..., None], *what: object) -> None:
        """Goes on with a job, unless it was answered meanwhile; what goes wrong concerns only this one."""
        if job.over:
            return
        try:
            then(job, *what)
        except Exception as problem:  # the boundary: the others are still served
            self._give_up(job, problem)

    def _answer(self, job: ChunkedJob, outcome: BatchSlice | Exception) -> None:
        """Sends what came of a whole prediction."""
        job.end()
        if job.prediction.wire.connection.gone:
            self._outcomes.forget(job.prediction, CLIENT_GONE)
        elif isinstance(outcome, Exception):
            self._outcomes.refuse(job.prediction, outcome)
        else:
            self._outcomes.send(job.prediction, outcome)

    def _advance(self, job: ChunkedJob, start: int, done: BatchActions | Exception) -> None:
        if isinstance(done, Exception):
            self._give_up(job, done)
            return
        job.add(start, done)
        if time.perf_counter() >= job.prediction.ends:
            self._give_up(job, too_late(job.prediction.serving))
        elif job.is_complete:
            self._answer(job, job.joined())
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
        return self._threads.oldest

    def give_up_older_than(self, limit: float) -> None:
        """Answers the predictions whose chunks began before `limit` and so hang, and those that wait for a thread."""
        hanging = self._threads.begun_before(limit)
        for job in hanging:
            if not job.over:
                self._give_up(job, ApiError("internal", "the forward pass took longer than --forward-timeout-s"))
        if hanging and not self.hangs:
            self.hangs = True
            waiting, self._jobs = [*self._threads.not_begun(), *self._jobs], deque()
            for job in waiting:
                if not job.over:
                    self._give_up(job, _replaced())
            self.on_hang()

    def stop(self) -> None:
        """Stops the threads once their current chunks are done."""
        self._threads.stop()


def _replaced() -> ApiError:
    return ApiError("not_ready", "this process is being replaced; try again")
