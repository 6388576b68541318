"""How many connections each worker holds: a table in memory that the workers of one server share.

The first worker to accept gets a connection, and an event loop that is awake accepts many at once; so two connections
often go to one of two workers while the other core idles. By the table, a worker leaves a connection to those that
hold fewer.
"""

from __future__ import annotations

import mmap

import numpy as np

PLACES = 512
"""Twice the most workers: after SIGHUP the old ones are still stopping while the new ones start."""
_FREE, _QUIET = -2, -1


class ConnectionCounts:
    """The table. To be made before workers are forked; only their parent gives places and takes them back."""

    def __init__(self) -> None:
        self._held = np.frombuffer(mmap.mmap(-1, 8 * PLACES), np.int64)  # anonymous memory: children share it
        self._held[:] = _FREE

    def give_place(self) -> int:
        """Returns a place for a new worker, which is ignored until `hold` is called."""
        place = int(np.flatnonzero(self._held == _FREE)[0])
        self.leave(place)
        return place

    def take_back(self, place: int) -> None:
        """Frees the place of a worker that has ended."""
        self._held[place] = _FREE

    def hold(self, place: int, connections: int) -> None:
        """Notes that the worker takes connections, and how many it holds."""
        self._held[place] = connections

    def leave(self, place: int) -> None:
        """Notes that the worker takes no connections."""
        self._held[place] = _QUIET

    def others_hold_less(self, connections: int) -> bool:
        """Whether any worker that takes connections holds fewer than `connections`."""
        return bool(((self._held >= 0) & (self._held < connections)).any())


SHARES = ConnectionCounts()
"""The table of this server, made in the master process."""
