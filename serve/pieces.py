"""Slow policies, such as image networks: off the event loop, in small pieces over as many threads as cores.

Large batches of an image network are no faster on a CPU, and a long forward would keep everyone waiting; so requests
take turns, a piece of each at a time.
"""

from __future__ import annotations

import os
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from carla_mlflow.actions import Actions
from carla_mlflow.errors import SpecError
from carla_mlflow.sampling import checked_seed
from serve.answer import timing_ms, too_late
from serve.batch import Answered, BatchActions, act_together, observations_of
from serve.codecs.carla import PredictRequest
from serve.errors import ApiError
from serve.turn import Question, Refuse, Send

PIECE_MS = 3.0
"""About as long as a piece may take."""


class Job:
    """A question that is answered piece by piece."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.request: PredictRequest | None = None  # with arrays, once it is decoded
        self.started = 0.0
        self.answers: dict[int, Actions] = {}
        self.next_row = self.done_rows = 0
        self.over = False

    def decode(self) -> None:
        """Reads the body and checks every row, before any of them costs a forward."""
        request = self.question.decode()
        arrays = observations_of(self.question.serving, request)
        self.question.serving.engine.specs.validate(arrays)
        seed = request.seed if request.deterministic else checked_seed(request.seed)
        self.request = msgspec.structs.replace(request, observations=arrays, rows=None, seed=seed)

    def run(self, start: int, stop: int) -> None:
        """Answers some rows."""
        assert self.request is not None
        arrays = {name: array[start:stop] for name, array in self.request.observations.items()}
        piece = msgspec.structs.replace(self.request, observations=arrays)
        [answered] = act_together(self.question.serving, [piece])
        if isinstance(answered, SpecError):  # names the piece's row; the whole has been checked
            raise RuntimeError("a row that was checked is refused") from answered
        if isinstance(answered, Exception):
            raise answered
        self.answers[start] = answered.actions

    def whole(self) -> Answered:
        """The pieces together."""
        parts = [self.answers[start] for start in sorted(self.answers)]
        first = parts[0]
        if len(parts) == 1:
            return Answered(BatchActions(first), 0, len(first.control))
        actions = Actions(
            np.concatenate([part.control for part in parts]),
            np.concatenate([part.raw for part in parts]),
            {name: np.concatenate([part.distribution[name] for part in parts]) for name in first.distribution},
            first.seed,
            sum(part.check_ms for part in parts),
            sum(part.inference_ms for part in parts),
            sum(part.control_ms for part in parts),
        )
        return Answered(BatchActions(actions), 0, len(actions.control))


class Pieces:
    """Hands pieces to threads. Everything but the pieces themselves runs on the event loop.

    Attributes:
        on_hang: called when a piece does not come to an end.
    """

    def __init__(self, loop: AbstractEventLoop, send: Send, refuse: Refuse, timeout_s: float) -> None:
        self._loop, self._send, self._refuse, self._timeout_s = loop, send, refuse, timeout_s
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="forward")
        self._jobs: deque[Job] = deque()  # that have rows nobody works on yet
        self._running: dict[int, tuple[float, Job]] = {}
        self._timed: set[Job] = set()
        self._number = 0
        self.on_hang: Callable[[], None] = lambda: None

    def add(self, question: Question) -> None:
        """Answers it when it is its turn."""
        job = Job(question)
        self._timed.add(job)
        self._jobs.append(job)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._jobs and len(self._running) < self._threads:
            job = self._jobs.popleft()
            if job.over:
                continue
            if time.perf_counter() >= job.question.ends:
                self._give_up(job, too_late(job.question.serving))
                continue
            job.started = job.started or time.perf_counter()
            start = job.next_row
            stop = start + _piece_rows(job)
            if job.request is not None:
                job.next_row = stop = min(stop, job.request.count)
                if stop < job.request.count:
                    self._jobs.append(job)
            self._number += 1
            self._running[self._number] = time.monotonic(), job
            self._pool.submit(self._work, self._number, job, start, stop)

    def _work(self, number: int, job: Job, start: int, stop: int) -> None:
        error: Exception | None = None
        try:
            if job.request is None:
                job.decode()
                assert job.request is not None
                job.next_row = stop = min(stop, job.request.count)
            if time.perf_counter() < job.question.ends:
                job.run(start, stop)
        except Exception as problem:  # the boundary: it is this request's alone
            error = problem
        self._loop.call_soon_threadsafe(self._worked, number, job, start, stop, error)

    def _worked(self, number: int, job: Job, start: int, stop: int, error: Exception | None) -> None:
        self._running.pop(number, None)
        if not job.over:
            assert job.request is not None or error is not None
            if error is None and start not in job.answers:
                error = too_late(job.question.serving)
            if error is not None:
                self._give_up(job, error)
            else:
                self._advance(job, start, stop)
        self._dispatch()

    def _advance(self, job: Job, start: int, stop: int) -> None:
        assert job.request is not None
        job.done_rows += stop - start
        count = job.request.count
        if job.done_rows == count:
            job.over = True
            self._timed.discard(job)
            received, answered = job.question.wire.received, job.whole()
            times = {"queue": job.started - received, "total": time.perf_counter() - received}
            self._send(job.question, answered, timing_ms(received, job.started, answered), times)
        elif start == 0 and job.next_row < count and job not in self._jobs:
            self._jobs.append(job)  # it has just been decoded, and has more rows than one piece

    def _give_up(self, job: Job, error: Exception) -> None:
        job.over = True
        self._timed.discard(job)
        self._refuse(job.question.wire, error, job.question.serving)

    def look(self) -> None:
        """Called often: requests whose time is over are answered, and forwards that hang are noticed."""
        now = time.perf_counter()
        for job in [job for job in self._timed if now >= job.question.ends]:
            self._give_up(job, too_late(job.question.serving))
        limit = time.monotonic() - self._timeout_s
        hanging = [job for since, job in self._running.values() if since < limit]
        for job in hanging:
            if not job.over:
                self._give_up(job, ApiError("internal", "the policy does not come to an end"))
        if hanging:
            self.on_hang()

    def stop(self) -> None:
        """Takes nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _piece_rows(job: Job) -> int:
    return max(1, round(PIECE_MS / job.question.serving.row_ms))
