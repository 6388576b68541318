"""Detects forwards that hang: the only hang detector of a server process.

A forward on the event loop blocks it, so this thread writes to the sockets itself: 504 when a request's budget is over,
500 when the forward exceeds its timeout. If an earlier response is not sent yet, it closes the connection instead.
After the timeout the process ends, and gunicorn or Ray starts another. A forward in a thread leaves the event loop
free: the executor answers then, and has the process replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable

from serve.answering.prediction import too_late
from serve.batching.chunked_executor import ChunkedExecutor
from serve.batching.micro_batcher import MicroBatcher
from serve.batching.pending_prediction import PendingPrediction
from serve.errors import STATUS, ApiError, Code
from serve.following.attempts import withdraw
from serve.record.hook import RECORDERS, stop_records
from serve.telemetry import metrics
from serve.wire.finish import record_error
from serve.wire.outside import end_outside

INTERVAL_S = 0.02
EXIT_CODE = 70

log = logging.getLogger("serve")


class Watchdog(threading.Thread):
    """Watches the forwards of one server process."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        micro_batcher: MicroBatcher,
        chunked_executor: ChunkedExecutor,
        explain: Callable[[PendingPrediction, ApiError], bytes],
        timeout_s: float,
    ) -> None:
        """`explain` encodes the response to a prediction that gets an error; `timeout_s` is a forward's, seconds."""
        super().__init__(name="watchdog", daemon=True)
        self._loop, self._micro_batcher, self._chunked_executor = loop, micro_batcher, chunked_executor
        self._explain, self._timeout_s = explain, timeout_s

    def run(self) -> None:
        """Runs forever; ends the process when a forward on the event loop hangs."""
        while True:
            time.sleep(INTERVAL_S)
            limit = time.monotonic() - self._timeout_s
            if self._chunked_executor.oldest < limit:
                with contextlib.suppress(RuntimeError):  # the event loop is closed: no client waits
                    self._loop.call_soon_threadsafe(self._chunked_executor.give_up_older_than, limit)
            with self._micro_batcher.lock:
                running = self._micro_batcher.running
                if running is not None and self._check(*running):
                    self._record(running[1])
                    self._end_process()

    def _check(self, since: float, group: list[PendingPrediction]) -> bool:
        """Answers what is late; returns whether the forward hangs."""
        hangs = time.monotonic() - since > self._timeout_s
        now = time.perf_counter()
        for prediction in group:
            connection = prediction.wire.connection
            first = next(iter(connection.pending), None)
            if prediction.wire.outside or first is not prediction.wire:
                continue  # answered, gone, or behind another request of its connection
            if connection.transport.get_extra_info("socket") is None:
                continue  # closed, or of an ASGI server: the event loop answers, if it can
            if now >= prediction.ends:
                self._answer(prediction, too_late(prediction.serving))
            elif hangs:
                self._answer(prediction, ApiError("internal", "the forward pass took longer than --forward-timeout-s"))
        return hangs

    def _answer(self, prediction: PendingPrediction, error: ApiError) -> None:
        prediction.wire.outside = True  # in any case: the event loop closes the connection later
        end_outside(prediction.wire.connection.transport, lambda: self._explain(prediction, error))
        metrics.BUFFER.answered(prediction.endpoint.route, error.status, prediction.serving.version)

    def _record(self, group: list[PendingPrediction]) -> None:
        """Records what was answered in a forward's stead: the forward won't end, and so can't."""
        for prediction in group:
            if RECORDERS and prediction.wire.outside:
                code: Code = "deadline_exceeded" if time.perf_counter() >= prediction.ends else "internal"
                record_error(prediction.wire, STATUS[code], prediction.serving, prediction, prediction.episode_id)

    def _end_process(self) -> None:
        log.critical(
            "a forward pass took longer than --forward-timeout-s (%g s): this worker is being replaced", self._timeout_s
        )
        flushing = threading.Thread(target=_flush, daemon=True)  # the hung forward may hold a lock
        flushing.start()
        flushing.join(1.0)
        logging.shutdown()
        withdraw()
        os._exit(EXIT_CODE)


def _flush() -> None:
    stop_records()
    metrics.BUFFER.flush()
