"""From when to when a recording is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Window(NamedTuple):
    """From when to when rows count, nanoseconds since 1970; those before only lead policies with memory there."""

    start: int = 0
    end: int = 2**63 - 1

    def holds(self, timestamp: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times lie in it."""
        inside: NDArray[np.bool_] = (timestamp >= self.start) & (timestamp < self.end)
        return inside
