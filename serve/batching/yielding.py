"""Yields the CPU core for a moment before a forward, where the other processes give it back soon.

Under load the next requests are on their way while a batch is being read, and their senders and the other workers wait
for a core. A worker whose last batch had several requests yields to them, reads again, and then runs the forward:
batches are larger, and a request costs less. Beside a process that computes without pause, the core is gone for
milliseconds. So the time is measured, and after a long one yielding stops for a while.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

LONG_S = 0.001
"""Seconds from which a yield counts as long: other workers have answered their requests by then."""
MIN_REST, MAX_REST = 64, 4096
"""Batches that don't yield after a long yield: doubled by each long one, reduced by RECOVERY by each short one."""
RECOVERY = 8


class Yielding:
    """Decides for one event loop when to yield."""

    def __init__(
        self, give_way: Callable[[], None] = os.sched_yield, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._give_way, self._clock = give_way, clock
        self._rest, self._next_rest = 0, MIN_REST

    def pays(self, requests: int) -> bool:
        """Whether to yield before this batch; `requests` is the size of the last one."""
        if requests < 2:
            return False
        if self._rest:
            self._rest -= 1
            return False
        return True

    def give_way(self) -> None:
        """Yields to the processes that wait for this core, and measures how long that takes."""
        began = self._clock()
        self._give_way()
        if self._clock() - began > LONG_S:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, MAX_REST)
        else:
            self._next_rest = max(MIN_REST, self._next_rest - RECOVERY)
