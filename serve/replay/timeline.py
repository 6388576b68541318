"""When two versions differ: the largest difference in each of some equal parts of the replayed time."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 240


class TimelineFigures(msgspec.Struct, frozen=True):
    """What a timeline found.

    Attributes:
        start: of the first part, nanoseconds since 1970.
        end: of the last.
        largest: dimension → the largest difference in each part; None where no row was compared.
    """

    start: int
    end: int
    largest: dict[str, list[float | None]]


class Timeline:
    """Keeps the largest difference of each part of a span of time."""

    def __init__(self, start: int, end: int) -> None:
        """Takes a span, nanoseconds since 1970; `end` is the last row's time."""
        self._start, self._end = start, max(end, start + BINS)
        self._largest: dict[str, NDArray[np.float64]] = {}

    def add(self, timestamp: NDArray[np.int64], apart: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes rows' times, (B,), and their differences by dimension, each (B,)."""
        length = -(-(self._end - self._start + 1) // BINS)
        places = np.clip((timestamp - self._start) // length, 0, BINS - 1)
        for name, values in apart.items():
            largest = self._largest.setdefault(name, np.full(BINS, -1.0))
            np.maximum.at(largest, places, values)

    def figures(self) -> TimelineFigures:
        told = {name: [None if v < 0 else v for v in values.tolist()] for name, values in self._largest.items()}
        return TimelineFigures(self._start, self._end, told)
