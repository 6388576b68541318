"""Micro-batching: all requests that are readable in one iteration of the event loop are answered by one forward.

No timer and no queue: a single request does not wait; under load, requests that came while the last forward
ran are read together. Requests of different versions, modes or seeds share an iteration, but never a forward.

One iteration runs forwards of SLOW_MS at most, as estimated from their rows: what is left is answered in the next one,
so that others are read in between. A request whose own forward would take longer is handed over, to run in a thread.
"""

from __future__ import annotations

import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator

from serve.answering.prediction import forward, too_late
from serve.batching.busy_poll import BusyPoll
from serve.batching.pending_prediction import Outcomes, PendingPrediction
from serve.batching.yielding import Yielding
from serve.limits import MAX_BATCH_ROWS, MAX_TURN_BYTES
from serve.policy.serving import SLOW_MS

CLIENT_GONE = 499
"""The status counted for a request whose client is gone, as in nginx."""

LATELY_S = 0.2
"""Seconds since the last forward for which more are expected: vehicles decide ten times a second or more often."""


class MicroBatcher:
    """Collects the predictions of one iteration of the event loop, and answers them at its end.

    Attributes:
        running: when the running forward began (`time.monotonic`), and its predictions; read by the watchdog.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        outcomes: Outcomes,
        busy_poll: BusyPoll,
        hand_over: Callable[[PendingPrediction], None],
    ) -> None:
        """`hand_over` takes a decoded prediction whose forward would block the event loop for too long."""
        self._loop, self._outcomes, self._busy_poll = loop, outcomes, busy_poll
        self._hand_over = hand_over
        self._waiting: list[PendingPrediction] = []
        self._yielding, self._last = Yielding(), 0  # requests of the last batch
        self.lock = threading.Lock()
        self.running: tuple[float, list[PendingPrediction]] | None = None
        self._last_began = float("-inf")

    def was_used_lately(self) -> bool:
        """Whether a forward ran here within the last LATELY_S."""
        return time.monotonic() - self._last_began < LATELY_S

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
        spent_ms = 0.0
        later: list[PendingPrediction] = []
        for part, ms in self._parts(waiting):
            if spent_ms and spent_ms + ms > SLOW_MS:
                later += part
                continue
            spent_ms += ms
            self._answer(part)
        if later:
            if not self._waiting:  # else it is going to run anyway
                self._loop.call_soon(self._run)
            self._waiting = later + self._waiting
        elif len(waiting) == 1:  # with more, the next requests are already on their way
            self._busy_poll.answered()

    def _take(self) -> list[PendingPrediction]:
        """Takes what waits; of large bodies only some, so that the event loop serves other connections in between."""
        waiting, size = self._waiting, 0
        for number, prediction in enumerate(waiting):
            if prediction.request is None:  # not decoded yet
                size += len(prediction.encoded.body)
            if size > MAX_TURN_BYTES and number:
                self._waiting = waiting[number:]
                self._loop.call_soon(self._run)
                return waiting[:number]
        self._waiting = []
        return waiting

    def _parts(self, waiting: list[PendingPrediction]) -> Iterator[tuple[list[PendingPrediction], float]]:
        """Decodes what waits; yields what shares a forward, and the milliseconds which that will take."""
        groups: dict[object, list[PendingPrediction]] = {}
        for prediction in waiting:
            if prediction.wire.connection.gone:
                self._outcomes.forget(prediction, CLIENT_GONE)
                continue
            try:
                request = prediction.request or prediction.decode()
            except Exception as error:  # the boundary: the error affects only this request
                self._outcomes.refuse(prediction, error)
                continue
            key = id(prediction.serving) if request.deterministic else prediction
            groups.setdefault(key, []).append(prediction)
        for group in groups.values():
            yield from self._split(group)

    def _split(self, group: list[PendingPrediction]) -> Iterator[tuple[list[PendingPrediction], float]]:
        """Splits a group so that no forward takes over SLOW_MS; hands over each request that alone would.

        Where one row takes nearly as long, several may take longer: see `ForwardTimes.most_ms`. A forward has
        MAX_BATCH_ROWS rows at most: decoding and encoding take time, too.
        """
        estimate, rows, ms = group[0].serving.forward_times.ms, 0, 0.0
        most_ms = group[0].serving.forward_times.most_ms(SLOW_MS)
        part: list[PendingPrediction] = []
        for prediction in group:
            count = prediction.request.count if prediction.request is not None else 0
            with_it = estimate(rows + count)
            if with_it > (most_ms if rows else SLOW_MS) or (part and rows + count > MAX_BATCH_ROWS):
                alone = estimate(count) if rows else with_it
                if alone > SLOW_MS:
                    self._hand_over(prediction)
                    continue
                yield part, ms
                part, rows, with_it = [], 0, alone
            part.append(prediction)
            rows, ms = rows + count, with_it
        if part:
            yield part, ms

    def _answer(self, group: list[PendingPrediction]) -> None:
        now, serving = time.perf_counter(), group[0].serving
        late = [prediction for prediction in group if now >= prediction.ends]
        if late:  # answered now: during a forward the watchdog would answer them, and end their connections
            group = [prediction for prediction in group if now < prediction.ends]
            for prediction in late:
                self._outcomes.refuse(prediction, too_late(serving))
            if not group:
                return
        self._last_began = time.monotonic()
        with self.lock:
            self.running = self._last_began, group
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
