"""Notices a forward that does not come to an end although the event loop waits for it.

The loop can't answer then; this thread does, straight into the sockets: 504 at a request's budget, 500 when the
forward has hung for too long. Where an earlier answer is not sent yet, the connection ends instead. When the forward
has hung for too long, the process ends too, and gunicorn starts another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

from serve.answering.single import too_late
from serve.batching.micro_batcher import Turn
from serve.batching.pending_prediction import Question
from serve.errors import ApiError
from serve.following.attempts import withdraw
from serve.wire.outside import end_outside

LOOK_S = 0.02
EXIT_CODE = 70

log = logging.getLogger("serve")


class Watchdog(threading.Thread):
    """Watches the turns of one worker."""

    def __init__(self, turn: Turn, explain: Callable[[Question, ApiError], bytes], timeout_s: float) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._turn, self._explain, self._timeout_s = turn, explain, timeout_s

    def run(self) -> None:
        """For ever; ends the process when a forward hangs."""
        while True:
            time.sleep(LOOK_S)
            with self._turn.lock:
                if self._turn.running is not None and self._look(*self._turn.running):
                    log.critical("a forward has not come to an end within %g s: this worker ends", self._timeout_s)
                    logging.shutdown()
                    withdraw()
                    os._exit(EXIT_CODE)

    def _look(self, since: float, group: list[Question]) -> bool:
        hangs = time.monotonic() - since > self._timeout_s
        now = time.perf_counter()
        for question in group:
            first = next(iter(question.wire.connection.pending), None)
            if question.wire.outside or first is not question.wire:
                continue  # answered, gone, or behind another request of its connection
            if now >= question.ends:
                self._answer(question, partial(too_late, question.serving))
            elif hangs:
                self._answer(question, lambda: ApiError("internal", "the policy does not come to an end"))
        return hangs

    def _answer(self, question: Question, error: Callable[[], ApiError]) -> None:
        question.wire.outside = True  # one way or the other: the loop ends the connection when it is back
        end_outside(question.wire.connection.transport, lambda: self._explain(question, error()))
