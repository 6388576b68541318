"""Work in the time that nobody else wants, and in one's own where that is too little.

A thread does the work under Linux's SCHED_IDLE: it runs where a processor has nothing else to do, and gives way at once
to whoever wakes up there. A process that is only nice keeps a processor until its slice ends, and a request that comes
then waits for it. On a machine that is full the thread would never run, and without rights it can't leave that policy
again; so the thread that started it makes up for what is late.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

LATE = 3.0
"""Work is late when it was last done so many pauses ago."""


class SpareTime:
    """Does a piece of work again and again, between `with` and its end.

    A piece should be short: one that was begun when there was time is not taken over when there is none any more. It
    should start no thread or process, which would have the policy, too.
    """

    def __init__(self, work: Callable[[], None], pause_s: float) -> None:
        """Takes the work, and the seconds from its end to its next beginning."""
        self._work, self._pause_s = work, pause_s
        self._turn, self._ended = threading.Lock(), threading.Event()
        self._done_at = time.monotonic()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="spare-time", daemon=True)

    def __enter__(self) -> SpareTime:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            self._check()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps the thread from beginning its work meanwhile."""
        with self._turn:
            yield

    def make_up(self) -> None:
        """Does the work now if it is late; to be called every `pause_s`. It and the end raise what the thread did."""
        self._check()
        if time.monotonic() - self._done_at > LATE * self._pause_s and self._turn.acquire(blocking=False):
            try:
                self._do()
            finally:
                self._turn.release()

    def _run(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # only Linux has it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0: this thread
        try:
            slept_from = time.monotonic()
            while not self._ended.wait(self._pause_s):
                if time.monotonic() - slept_from < 2 * self._pause_s:  # else it had to wait for a processor
                    with self._turn:
                        self._do()
                slept_from = time.monotonic()
        except Exception as error:  # for `make_up`
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _do(self) -> None:
        self._work()
        self._done_at = time.monotonic()
