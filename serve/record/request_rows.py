"""From a value for each request to a value for each of their rows, as columns of Arrow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.record.schema import TIME

PREPARED_ROWS = 4096
"""Columns of one value are cut from ones of this length, which cost less than new ones."""


class RequestRows:
    """The rows of some requests.

    Attributes:
        count: of all rows.
    """

    def __init__(self, requests: int, counts: Sequence[int] | None = None) -> None:
        """`counts` are the requests' rows; None where each has one."""
        self._repeats = None if counts is None else np.array(counts)
        self._counts = counts
        self.count = requests if counts is None else sum(counts)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value for each request → for each row."""
        return values if self._repeats is None else np.repeat(values, self._repeats)

    def spread_list(self, values: Sequence[Any]) -> Sequence[Any]:
        """The same of a sequence."""
        if self._counts is None:
            return values
        return [value for value, count in zip(values, self._counts, strict=True) for _ in range(count)]

    def column(self, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
        """A column of texts or numbers, None for null."""
        return pa.array(self.spread_list(values), kind)

    def milliseconds(self, seconds: NDArray[np.float64]) -> pa.Array:
        """A column of durations; `seconds` has one for each request."""
        return pa.array(self.spread((seconds * 1e3).astype(np.float32)))

    def timestamps(self, received: NDArray[np.float64], offset_ns: int) -> tuple[NDArray[np.int64], pa.Array]:
        """Times by `time.perf_counter`, one for each request → nanoseconds since 1970, one for each row."""
        values = self.spread((received * 1e9).astype(np.int64) + offset_ns)
        return values, pa.array(values).view(TIME)

    def places(self) -> NDArray[np.int32]:
        """Each row's place in its request, from 0."""
        if self._counts is None:
            return np.zeros(self.count, np.int32)
        return np.concatenate([np.arange(count, dtype=np.int32) for count in self._counts])

    def constant(self, value: int | bool | None, kind: str) -> pa.Array:
        """A column of one value, or of nulls; `kind` is the type's name in Arrow."""
        if self.count > PREPARED_ROWS:
            return _constant(value, kind, self.count)
        return _prepared(value, kind).slice(0, self.count)


@functools.cache
def _prepared(value: int | bool | None, kind: str) -> pa.Array:
    return _constant(value, kind, PREPARED_ROWS)


def _constant(value: int | bool | None, kind: str, rows: int) -> pa.Array:
    return pa.array([value] * rows, pa.type_for_alias(kind))


def stacked(parts: Sequence[NDArray[Any]], width: int | None) -> pa.Array:
    """Arrays, each (n, *shape), below each other: lists of `width` numbers, or numbers where that is None."""
    try:
        whole = b"".join(parts)  # type: ignore[arg-type]  # a quarter of the time that numpy takes for many small ones
    except TypeError:  # one is not in C order
        whole = b"".join([part.tobytes() for part in parts])
    kind = pa.from_numpy_dtype(parts[0].dtype)
    values = pa.Array.from_buffers(kind, len(whole) // parts[0].itemsize, [None, pa.py_buffer(whole)])
    return values if width is None else pa.FixedSizeListArray.from_arrays(values, width)
