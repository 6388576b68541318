"""Where a point of the world lies in a bird's eye view, and the other way round."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .bird_layouts import BirdLayout
from .ego import Ego

Array = NDArray[np.float64]


class BirdFrame:
    """The image's axes: up is the car's forward, right its right, whatever its yaw.

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
        self._aside = (np.arange(self.size) - self._car[0]) * self.metres
        self._behind = (np.arange(self.size) - self._car[1]) * self.metres
        self.reach_m = math.hypot(np.abs(self._aside).max(), np.abs(self._behind).max())

    def to_pixels(self, points: Array, ego: Ego) -> Array:
        """World points (..., 2), metres, as column and row (..., 2)."""
        cos, sin = _direction(ego)
        x, y = points[..., 0] - ego.location[0], points[..., 1] - ego.location[1]
        # Not a matrix product: for one, numpy's library may start threads, which takes longer than the product.
        aside, ahead = y * cos - x * sin, x * cos + y * sin
        return np.stack([aside / self.metres + self._car[0], self._car[1] - ahead / self.metres], axis=-1)

    def pixel_centres(self, ego: Ego) -> tuple[Array, Array]:
        """World x and y of all pixels' centres, metres, (size, size) each."""
        cos, sin = _direction(ego)
        x = (ego.location[0] - self._behind * cos)[:, None] - self._aside * sin
        y = (ego.location[1] - self._behind * sin)[:, None] + self._aside * cos
        return x, y


def _direction(ego: Ego) -> tuple[float, float]:
    return math.cos(math.radians(ego.yaw)), math.sin(math.radians(ego.yaw))
