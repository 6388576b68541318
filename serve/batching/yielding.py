"""Giving the core away for a moment before a forward, where the others give it back soon.

Under load the next requests are on their way while a turn is being read, and who sends them waits for a core, as the
other workers do. A worker whose last turn held several requests lets them go first, looks once more, and then computes:
forwards are fuller, and a request costs less. Beside a process that computes without end a core that was given
away is gone for milliseconds. So that is measured, and where it took long it is not tried again for a while.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

LONG_S = 0.001
"""Others that answer requests are done by then."""
MIN_REST, MAX_REST = 64, 4096
"""Turns without trying: doubled by each try that took long, shortened by RECOVERY turns by each that did not."""
RECOVERY = 8


class Yielding:
    """Decides for one event loop when to give way."""

    def __init__(
        self, give_way: Callable[[], None] = os.sched_yield, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._give_way, self._clock = give_way, clock
        self._rest, self._next_rest = 0, MIN_REST

    def pays(self, requests: int) -> bool:
        """Whether to give way in this turn; after one that held so many requests."""
        if requests < 2:
            return False
        if self._rest:
            self._rest -= 1
            return False
        return True

    def give_way(self) -> None:
        """Lets whoever waits for this core go first."""
        began = self._clock()
        self._give_way()
        if self._clock() - began > LONG_S:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, MAX_REST)
        else:
            self._next_rest = max(MIN_REST, self._next_rest - RECOVERY)
