"""What a bird's eye view draws: convex polygons in the world, each with the value that its pixels get."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = NDArray[np.uint8]

CORNERS = 4
CAP_CORNERS = 17
"""Corners of each half circle at the ends of a line; its area is 1 % less than the circle's."""


@dataclass(frozen=True)
class Shapes:
    """Convex polygons; where they overlap, the last one's value counts.

    Attributes:
        polygons: corners in the world, (N, K, 2), metres.
        values: (N,).
    """

    polygons: Array
    values: Values

    def __len__(self) -> int:
        return len(self.polygons)


NOTHING = Shapes(np.empty((0, CORNERS, 2)), np.empty(0, dtype=np.uint8))


def joined(parts: Iterable[Shapes]) -> Shapes:
    """All of them in that order; those with fewer corners repeat their last one."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return NOTHING
    most = max(part.polygons.shape[1] for part in filled)
    polygons = [
        np.concatenate([part.polygons, *[part.polygons[:, -1:]] * (most - part.polygons.shape[1])], axis=1)
        for part in filled
    ]
    return Shapes(np.concatenate(polygons), np.concatenate([part.values for part in filled]))


def filled_with(polygons: Array, value: int) -> Shapes:
    """Polygons that all have one value."""
    return Shapes(polygons, np.full(len(polygons), value, dtype=np.uint8))


def rectangles(centre: Array, forward: Array, half: Array) -> Array:
    """Rectangles (N, 4, 2) from their centres (N, 2), unit vectors along them and half of length and width (N, 2)."""
    along = forward * half[:, :1]
    aside = np.stack([-forward[:, 1], forward[:, 0]], axis=1) * half[:, 1:]
    return np.stack(
        [centre - along - aside, centre + along - aside, centre + along + aside, centre - along + aside], axis=1
    )


def lines(start: Array, end: Array, width: float, beyond: float = 0.0) -> Array:
    """Straight lines (N, 4, 2) of that width, from (N, 2) to (N, 2) and longer by `beyond` at both ends."""
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    forward = (end - start) / np.maximum(length, 1e-9)
    half = np.concatenate([length / 2 + beyond, np.full_like(length, width / 2)], axis=1)
    return rectangles((start + end) / 2, forward, half)


def rounded_lines(start: Array, end: Array, width: float) -> Array:
    """Straight lines of that width with half circles at both ends, (N, 2 × CAP_CORNERS, 2)."""
    along = end - start
    length = np.linalg.norm(along, axis=1, keepdims=True)
    forward = np.where(length > 1e-9, along / np.maximum(length, 1e-9), (1.0, 0.0))
    aside = np.stack([-forward[:, 1], forward[:, 0]], axis=1)
    turn = np.linspace(-np.pi / 2, np.pi / 2, CAP_CORNERS)[:, None]
    cap = (np.cos(turn) * forward[:, None, :] + np.sin(turn) * aside[:, None, :]) * width / 2
    return np.concatenate([end[:, None, :] + cap, start[:, None, :] - cap], axis=1)
