"""From a value for each request to a value for each of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RequestRows:
    """The rows of some requests.

    Attributes:
        count: of all rows.
    """

    def __init__(
        self, counts: Sequence[int] | NDArray[np.int32] | int, firsts: Sequence[int] | NDArray[np.int32] | None = None
    ) -> None:
        """Takes the requests' rows, or the number of requests where each has one.

        Args:
            counts: rows of each request.
            firsts: the place in its request of each one's first row; None for 0.
        """
        self._firsts = firsts
        if isinstance(counts, int):
            self._counts, self.count = None, counts
        else:
            self._counts = np.asarray(counts)
            self.count = int(self._counts.sum())

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value for each request → for each row."""
        return values if self._counts is None else np.repeat(values, self._counts)

    def spread_list(self, values: Sequence[Any]) -> Sequence[Any]:
        """The same of a sequence."""
        if self._counts is None:
            return values
        return [value for value, count in zip(values, self._counts.tolist(), strict=True) for _ in range(count)]

    def timestamps(self, received: NDArray[np.float64], offset_ns: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """Times by `time.perf_counter`, one for each request → nanoseconds since 1970, one for each row."""
        return self.spread((received * 1e9).astype(np.int64) + offset_ns)

    def places(self) -> NDArray[np.int32]:
        """Each row's place in its request."""
        firsts = np.zeros(1, np.int32) if self._firsts is None else np.asarray(self._firsts, np.int32)
        if self._counts is None:
            return np.broadcast_to(firsts, self.count).astype(np.int32)
        ends = np.cumsum(self._counts)
        within = np.arange(self.count) - np.repeat(ends - self._counts, self._counts)
        places: NDArray[np.int32] = within.astype(np.int32) + self.spread(np.broadcast_to(firsts, len(self._counts)))
        return places
