"""How many connections each worker holds: a table in memory that the workers of one server share.

Whoever accepts first gets a connection, and an event loop that is awake accepts many at once; so two connections often
fall to one of two workers while the other core idles. With the table, a worker lets those accept that hold fewer.
"""

from __future__ import annotations

import mmap

import numpy as np

PLACES = 512
"""Twice the most workers: after SIGHUP the old ones are still leaving while the new ones start."""
_FREE, _QUIET = -2, -1


class ConnectionCounts:
    """The table. To be made before workers are forked; places are given and taken back by their parent alone."""

    def __init__(self) -> None:
        self._held = np.frombuffer(mmap.mmap(-1, 8 * PLACES), np.int64)  # anonymous memory: children share it
        self._held[:] = _FREE

    def give_place(self) -> int:
        """A place for a new worker, which counts for nothing until `hold` is called."""
        place = int(np.flatnonzero(self._held == _FREE)[0])
        self.leave(place)
        return place

    def take_back(self, place: int) -> None:
        """Its worker is gone."""
        self._held[place] = _FREE

    def hold(self, place: int, connections: int) -> None:
        """The worker there takes connections, and holds so many."""
        self._held[place] = connections

    def leave(self, place: int) -> None:
        """The worker there takes none."""
        self._held[place] = _QUIET

    def others_hold_less(self, connections: int) -> bool:
        """Whether a worker that takes connections holds fewer than so many."""
        return bool(((self._held >= 0) & (self._held < connections)).any())


SHARES = ConnectionCounts()
"""Of this server: made in the master process."""
