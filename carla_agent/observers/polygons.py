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
    x, y = polygons[..., 0], polygons[..., 1]
    inside = (x.max(axis=1) >= 0) & (x.min(axis=1) < width)
    first = np.clip(np.ceil(y.min(axis=1)), 0, height).astype(np.intp)
    rows = np.where(inside, np.clip(np.ceil(y.max(axis=1)), 0, height).astype(np.intp) - first, 0)
    owner = np.repeat(np.arange(len(polygons)), rows)
    row = _count_up(first, rows)
    left, right = _spans(polygons, owner, row)
    start = np.clip(np.ceil(left), 0, width).astype(np.intp)
    lengths = np.clip(np.ceil(right), 0, width).astype(np.intp) - start
    return _count_up(row * width + start, lengths), np.repeat(owner, lengths)


def _spans(polygons: Array, owner: Indices, row: Indices) -> tuple[Array, Array]:
    """Where each row enters and leaves its polygon."""
    ends = np.stack([polygons, np.roll(polygons, -1, axis=1)], axis=2)
    order = ends[..., 1].argsort(axis=2, kind="stable")[..., None]
    ends = np.take_along_axis(ends, order, axis=2)  # upper end first: neighbours compute a shared edge alike
    upper, lower = ends[:, :, 0], ends[:, :, 1]
    fall = lower[..., 1] - upper[..., 1]
    slope = (lower[..., 0] - upper[..., 0]) / np.where(fall > 0, fall, 1.0)
    at = row[:, None]
    top = upper[owner]
    crossing = top[..., 0] + (at - top[..., 1]) * slope[owner]
    crosses = (top[..., 1] <= at) & (at < lower[owner, :, 1])
    return np.where(crosses, crossing, np.inf).min(axis=1), np.where(crosses, crossing, -np.inf).max(axis=1)


def _count_up(starts: Indices, lengths: Indices) -> Indices:
    """start, start + 1 … for each start, as many as its length says; shape (sum of lengths,)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    counted: Indices = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return counted
