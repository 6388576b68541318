"""What a thread works on at a time: some rows of one prediction, or several small predictions that share a forward."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from serve.answering.forward import BatchActions, BatchSlice
from serve.answering.prediction import forward
from serve.batching.chunked_job import CHUNK_MS, ChunkedJob
from serve.limits import MAX_BATCH_ROWS

JOINING_PAYS = 0.75
"""A prediction joins others if that takes at most this part of a forward of its own: else it would only wait longer."""


class Chunk(Protocol):
    """What is handed to a thread.

    Attributes:
        ms: milliseconds that it will take.
        jobs: the predictions that it is of.
    """

    ms: float
    jobs: list[ChunkedJob]

    def run(self) -> None:
        """Runs the forward, in a thread; keeps what comes of it, errors too."""


class RowsChunk:
    """Some successive rows of one prediction.

    Attributes:
        done: the rows' actions, or the error; None before `run`, and where the prediction was over by then.
    """

    def __init__(self, job: ChunkedJob) -> None:
        """Takes the job's next rows."""
        self.jobs = [job]
        self.start, self._stop = job.next_chunk()
        self.ms = job.prediction.serving.forward_times.ms(self._stop - self.start)
        self.done: BatchActions | Exception | None = None

    def run(self) -> None:
        """See Chunk."""
        [job] = self.jobs
        if job.over:
            return
        job.prediction.started = job.prediction.started or time.perf_counter()
        try:
            self.done = job.run(self.start, self._stop)
        except Exception as error:  # the boundary: the error affects only this request
            self.done = error


class JoinedChunk:
    """Small predictions of one policy. Others may join until a thread begins.

    Attributes:
        outcomes: of the jobs that `run` found not over, in order: each gets its rows, or its own error.
    """

    def __init__(self, job: ChunkedJob) -> None:
        """Begins with one job, for which `can_join` holds."""
        self.jobs = [job]
        self._serving = job.prediction.serving
        self._rows = job.known_rows
        self.ms = self._serving.forward_times.ms(self._rows)
        self.outcomes: list[tuple[ChunkedJob, BatchSlice | Exception]] = []
        self._lock, self._has_begun = threading.Lock(), False

    def join(self, job: ChunkedJob) -> bool:
        """Adds a job, if it fits and shares enough of the forward; returns whether it did. On the event loop only."""
        if job.prediction.serving is not self._serving or not can_join(job):
            return False
        times, rows = self._serving.forward_times, self._rows + job.known_rows
        ms = times.ms(rows)
        pays = ms - self.ms <= JOINING_PAYS * times.ms(job.known_rows)
        if not pays or self._makes_late(ms) or rows > MAX_BATCH_ROWS or ms > times.most_ms(CHUNK_MS):
            return False
        with self._lock:
            if self._has_begun:
                return False
            self.jobs.append(job)
        self._rows, self.ms = rows, ms
        return True

    def _makes_late(self, ms: float) -> bool:
        """Whether a job would be late if the forward took `ms`, that is in time if it begins now and stays as it is."""
        now, first = time.perf_counter(), min(job.prediction.ends for job in self.jobs)
        return now + self.ms / 1e3 <= first < now + ms / 1e3

    def run(self) -> None:
        """See Chunk."""
        with self._lock:
            self._has_begun = True
        jobs = [job for job in self.jobs if not job.over]
        if jobs:
            self.outcomes = list(zip(jobs, forward([job.prediction for job in jobs]), strict=True))


def can_join(job: ChunkedJob) -> bool:
    """Whether a job can share a forward: it waits, decoded and none of it begun, does not sample, and fits a chunk."""
    prediction, rows = job.prediction, job.known_rows
    if prediction.request is None or not prediction.request.deterministic or not job.is_new:
        return False
    if job.over or prediction.wire.connection.gone:
        return False
    times = prediction.serving.forward_times
    return times.ms(rows) <= times.most_ms(CHUNK_MS)
