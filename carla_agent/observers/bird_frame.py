"""Where a point of the world lies in a bird's eye view, and the other way round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bird_layouts import BirdLayout
from .ego import Ego

Array = NDArray[np.float64]


class BirdFrame:
    """The image's axes: up is the car's forward, right its right, whatever it looks at in the world.

    With s = (size - 1) / size × pixels_per_metre, a point `ahead` metres before the car's origin and `aside` metres to
    its right lies at column (size - 1) / 2 + s × aside and row (size - 1) × (1 - below_car / size) - s × ahead. The
    centre of the first pixel is (0, 0). Source: carla-roach, chauffeurnet.py, `_get_warp_transform`.

    Attributes:
        size: width and height, pixels.
        metres: of one pixel, 1 / s.
        reach_m: from the car to the corner that is farthest from it.
    """

    def __init__(self, layout: BirdLayout) -> None:
        self.size = layout.size
        self.metres = layout.size / (layout.size - 1) / layout.pixels_per_metre
        self._car = np.array([(self.size - 1) / 2, (self.size - 1) * (1 - layout.below_car / self.size)])
        row, column = np.mgrid[: self.size, : self.size]
        self._offsets = (np.stack([column, row], axis=-1) - self._car) * self.metres
        self.reach_m = float(np.linalg.norm(self._offsets, axis=-1).max())

    def to_pixels(self, points: Array, ego: Ego) -> Array:
        """World points (..., 2), metres, as column and row (..., 2)."""
        offsets = points.reshape(-1, 2) - np.array(ego.location[:2])
        return np.asarray(offsets @ (_axes(ego) / self.metres) + self._car).reshape(points.shape)

    def pixel_centres(self, ego: Ego) -> Array:
        """World points, metres, of all pixels' centres, (size, size, 2)."""
        centres: Array = self._offsets.reshape(-1, 2) @ _axes(ego).T + np.array(ego.location[:2])
        return centres.reshape(self._offsets.shape)


def _axes(ego: Ego) -> Array:
    """The image's axes in the world, as columns: right, and down, which is the car's backward."""
    cos, sin = np.cos(np.deg2rad(ego.yaw)), np.sin(np.deg2rad(ego.yaw))
    return np.array([[-sin, -cos], [cos, -sin]])
