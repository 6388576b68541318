"""Natural batching: what is readable in one turn of the event loop is answered by one forward.

No timer and no queue: alone, a request waits for nobody; under load, requests that came while the last forward
ran are read together. Requests of different versions, modes or seeds share a turn and never a forward.
"""

from __future__ import annotations

import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from serve.answer import deadline, too_late
from serve.batch import Answered, act_together
from serve.busy_poll import BusyPoll
from serve.codecs.carla import PredictRequest
from serve.doors import Asked, Door
from serve.slot import Serving
from serve.wire.connection import Request


class Question:
    """A prediction that waits for its forward."""

    __slots__ = ("asked", "door", "ends", "request", "serving", "wire")

    def __init__(self, wire: Request, door: Door, serving: Serving, asked: Asked) -> None:
        self.wire, self.door, self.serving, self.asked = wire, door, serving, asked
        self.request: PredictRequest | None = None
        self.ends = float("inf")

    def decode(self) -> PredictRequest:
        """Reads the body; raises ApiError or SpecError, also when the budget is over."""
        self.request = request = self.door.decode(self.serving, self.asked)
        plan = self.wire.plan
        self.ends = deadline(request, self.wire.received, plan.budget_ms if plan else None)
        return request


Refuse = Callable[[Request, Exception, Serving], None]
Send = Callable[[Question, Answered, float], None]


class Turn:
    """Collects the questions of a turn, and answers them at its end.

    Attributes:
        running: the questions whose forward is running, and since when (`time.monotonic`); a watchdog looks at it.
    """

    def __init__(self, loop: AbstractEventLoop, send: Send, refuse: Refuse, busy_poll: BusyPoll) -> None:
        self._loop, self._send, self._refuse, self._busy_poll = loop, send, refuse, busy_poll
        self._waiting: list[Question] = []
        self.lock = threading.Lock()
        self.running: tuple[float, list[Question]] | None = None

    def add(self, question: Question) -> None:
        """Answers it at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self._run)
        self._waiting.append(question)

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        groups: dict[object, list[Question]] = {}
        for question in waiting:
            try:
                request = question.decode()
            except Exception as error:  # the boundary: whatever it is, it is this request's alone
                self._refuse(question.wire, error, question.serving)
                continue
            key = id(question.serving) if request.deterministic else question
            groups.setdefault(key, []).append(question)
        for group in groups.values():
            for part in _parts(group):
                self._answer(part)
        if len(waiting) == 1:  # with more, the next are on their way
            self._busy_poll.answered()

    def _answer(self, group: list[Question]) -> None:
        started = time.perf_counter()
        serving = group[0].serving
        late = [question for question in group if started >= question.ends]
        if late:
            group = [question for question in group if started < question.ends]
            for question in late:
                self._refuse(question.wire, too_late(serving), serving)
            if not group:
                return
        with self.lock:
            self.running = time.monotonic(), group
        try:
            answers = _act(serving, group)
        finally:
            with self.lock:  # from here on the watchdog answers none of these any more
                self.running = None
        for question, answered in zip(group, answers, strict=True):
            if isinstance(answered, Exception):
                self._refuse(question.wire, answered, serving)
            else:
                self._send(question, answered, started)


def _act(serving: Serving, group: Sequence[Question]) -> Sequence[Answered | Exception]:
    try:
        return act_together(serving, [question.request for question in group if question.request is not None])
    except Exception as error:  # a forward that raises: nobody's fault but ours
        return [error] * len(group)


MOST_ROWS = 1024


def _parts(group: list[Question]) -> list[list[Question]]:
    """Pieces of at most so many rows, so that no forward keeps the loop for long."""
    parts, rows = [list[Question]()], 0
    for question in group:
        count = question.request.count if question.request is not None else 0
        if parts[-1] and rows + count > MOST_ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(question)
        rows += count
    return parts
