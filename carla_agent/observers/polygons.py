"""Fills many convex polygons at once: a pixel belongs to one when its centre lies inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def covered_pixels(polygons: Array, height: int, width: int) -> tuple[Indices, Indices]:
    """The pixels whose centres lie in convex polygons.

    A centre on a left or upper edge is inside, one on a right or lower edge is not, so that polygons that share an
    edge neither leave a pixel out nor claim one twice.

    Args:
        polygons: corners (column, row), in either sense of rotation, (N, K, 2); the first pixel's centre is (0, 0). A
            polygon with fewer than K corners repeats one.
        height: of the image, pixels.
        width: likewise.

    Returns:
        For each covered pixel its index, row × width + column, and the number of its polygon, in ascending order.
    """
    x, y = np.ascontiguousarray(polygons.transpose(2, 1, 0))  # (K, N): reductions along K are then fast
    low, high = np.ceil(y.min(axis=0)), np.ceil(y.max(axis=0))
    seen = np.flatnonzero((x.max(axis=0) >= 0) & (x.min(axis=0) < width) & (high > 0) & (low < height))
    first = np.maximum(low[seen], 0).astype(np.intp)
    rows = np.minimum(high[seen], height).astype(np.intp) - first
    owner = np.repeat(np.arange(len(seen)), rows)
    row = _count_up(first, rows)
    left, right = _spans(x[:, seen], y[:, seen], owner, row)
    start = np.clip(np.ceil(left), 0, width).astype(np.intp)
    lengths = np.clip(np.ceil(right), 0, width).astype(np.intp) - start
    return _count_up(row * width + start, lengths), np.repeat(seen[owner], lengths)


def _spans(x: Array, y: Array, owner: Indices, row: Indices) -> tuple[Array, Array]:
    """Where each row (P,) enters and leaves its polygon (K, N)."""
    left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    for corner in range(len(x)):
        x0, y0, x1, y1 = x[corner - 1], y[corner - 1], x[corner], y[corner]
        falls = y0 <= y1  # from the upper end to the lower, so that neighbours compute a shared edge alike
        top_x, top, low = np.where(falls, x0, x1), np.where(falls, y0, y1), np.where(falls, y1, y0)
        slope = np.where(falls, x1 - x0, x0 - x1) / np.where(low > top, low - top, 1.0)
        top = top[owner]
        crosses = np.flatnonzero((top <= row) & (row < low[owner]))
        of = owner[crosses]
        crossing = top_x[of] + (row[crosses] - top[crosses]) * slope[of]
        left[crosses] = np.minimum(left[crosses], crossing)
        right[crosses] = np.maximum(right[crosses], crossing)
    return left, right


def _count_up(starts: Indices, lengths: Indices) -> Indices:
    """start, start + 1 … for each start, as many as its length says; shape (sum of lengths,)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    counted: Indices = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return counted
