"""Detects a forward that hangs and so blocks the event loop.

The event loop can't answer then, so this thread writes to the sockets itself: 504 when a request's budget is over, 500
when the forward exceeds its timeout. If an earlier response is not sent yet, it closes the connection instead. After
the timeout the process ends, and gunicorn starts another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from serve.answering.single import too_late
from serve.batching.micro_batcher import MicroBatcher
from serve.batching.pending_prediction import PendingPrediction
from serve.errors import ApiError
from serve.following.attempts import withdraw
from serve.wire.outside import end_outside

LOOK_S = 0.02
EXIT_CODE = 70

log = logging.getLogger("serve")


class Watchdog(threading.Thread):
    """Watches the forwards on the event loop of one worker."""

    def __init__(
        self, micro_batcher: MicroBatcher, explain: Callable[[PendingPrediction, ApiError], bytes], timeout_s: float
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._micro_batcher, self._explain, self._timeout_s = micro_batcher, explain, timeout_s

    def run(self) -> None:
        """Runs forever; ends the process when a forward hangs."""
        while True:
            time.sleep(LOOK_S)
            with self._micro_batcher.lock:
                if self._micro_batcher.running is not None and self._look(*self._micro_batcher.running):
                    log.critical("a forward does not finish within %g s: this worker ends", self._timeout_s)
                    logging.shutdown()
                    withdraw()
                    os._exit(EXIT_CODE)

    def _look(self, since: float, group: list[PendingPrediction]) -> bool:
        hangs = time.monotonic() - since > self._timeout_s
        now = time.perf_counter()
        for prediction in group:
            first = next(iter(prediction.wire.connection.pending), None)
            if prediction.wire.outside or first is not prediction.wire:
                continue  # answered, gone, or behind another request of its connection
            if now >= prediction.ends:
                self._answer(prediction, partial(too_late, prediction.serving))
            elif hangs:
                self._answer(prediction, lambda: ApiError("internal", "the policy does not finish"))
        return hangs

    def _answer(self, prediction: PendingPrediction, error: Callable[[], ApiError]) -> None:
        prediction.wire.outside = True  # in any case: the event loop closes the connection later
        end_outside(prediction.wire.connection.transport, lambda: self._explain(prediction, error()))
