"""Micro-batching: all requests that are readable in one iteration of the event loop are answered by one forward.

No timer and no queue: a single request does not wait; under load, requests that came while the last forward
ran are read together. Requests of different versions, modes or seeds share an iteration, but never a forward.
"""

from __future__ import annotations

import threading
import time
from asyncio import AbstractEventLoop

from serve.answering.prediction import forward, too_late
from serve.batching.busy_poll import BusyPoll
from serve.batching.pending_prediction import Outcomes, PendingPrediction
from serve.batching.yielding import Yielding
from serve.limits import MAX_BATCH_ROWS, MAX_TURN_BYTES

CLIENT_GONE = 499
"""The status counted for a request whose client is gone, as in nginx."""


class MicroBatcher:
    """Collects the predictions of one iteration of the event loop, and answers them at its end.

    Attributes:
        running: when the running forward began (`time.monotonic`), and its predictions; read by the watchdog.
    """

    def __init__(self, loop: AbstractEventLoop, outcomes: Outcomes, busy_poll: BusyPoll) -> None:
        self._loop, self._outcomes, self._busy_poll = loop, outcomes, busy_poll
        self._waiting: list[PendingPrediction] = []
        self._yielding, self._last = Yielding(), 0  # requests of the last batch
        self.lock = threading.Lock()
        self.running: tuple[float, list[PendingPrediction]] | None = None

    def add(self, prediction: PendingPrediction) -> None:
        """Answers it at the end of this iteration of the event loop."""
        if not self._waiting:
            self._loop.call_soon(self._give_way if self._yielding.pays(self._last) else self._run)
        self._waiting.append(prediction)

    def _give_way(self) -> None:
        self._yielding.give_way()
        self._loop.call_soon(self._run)  # after reading what has come meanwhile

    def _run(self) -> None:
        waiting = self._take()
        self._last = len(waiting)
        groups: dict[object, list[PendingPrediction]] = {}
        for prediction in waiting:
            if prediction.wire.connection.gone:
                self._outcomes.forget(prediction, CLIENT_GONE)
                continue
            try:
                request = prediction.decode()
            except Exception as error:  # the boundary: the error affects only this request
                self._outcomes.refuse(prediction, error)
                continue
            key = id(prediction.serving) if request.deterministic else prediction
            groups.setdefault(key, []).append(prediction)
        for group in groups.values():
            for part in _parts(group):
                self._answer(part)
        if len(waiting) == 1:  # with more, the next requests are already on their way
            self._busy_poll.answered()

    def _take(self) -> list[PendingPrediction]:
        """Takes what waits; of large bodies only some, so that the event loop serves other connections in between."""
        waiting, size = self._waiting, 0
        for number, prediction in enumerate(waiting):
            size += len(prediction.encoded.body)
            if size > MAX_TURN_BYTES and number:
                self._waiting = waiting[number:]
                self._loop.call_soon(self._run)
                return waiting[:number]
        self._waiting = []
        return waiting

    def _answer(self, group: list[PendingPrediction]) -> None:
        now, serving = time.perf_counter(), group[0].serving
        late = [prediction for prediction in group if now >= prediction.ends]
        if late:  # answered now: during a forward the watchdog would answer them, and end their connections
            group = [prediction for prediction in group if now < prediction.ends]
            for prediction in late:
                self._outcomes.refuse(prediction, too_late(serving))
            if not group:
                return
        with self.lock:
            self.running = time.monotonic(), group
        try:
            answers = forward(group)
        finally:
            with self.lock:  # from here on the watchdog answers none of these any more
                self.running = None
        outcomes = self._outcomes
        for prediction, answered in zip(group, answers, strict=True):
            if prediction.wire.outside:
                prediction.wire.connection.cut()
                outcomes.forget(prediction, None)
            elif isinstance(answered, Exception):
                outcomes.refuse(prediction, answered)
            else:
                outcomes.send(prediction, answered)


def _parts(group: list[PendingPrediction]) -> list[list[PendingPrediction]]:
    """Splits a group at MAX_BATCH_ROWS rows, so that no forward blocks the event loop for long."""
    if len(group) == 1:
        return [group]
    parts: list[list[PendingPrediction]] = [[]]
    rows = 0
    for prediction in group:
        count = prediction.request.count if prediction.request is not None else 0
        if parts[-1] and rows + count > MAX_BATCH_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(prediction)
        rows += count
    return parts
