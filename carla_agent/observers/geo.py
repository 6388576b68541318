"""Latitude and longitude → CARLA's world, as the leaderboards' plans and CARLA's GNSS sensor up to 0.9.15 have them.

CARLA 0.9.16 projects otherwise: `carla.Map.transform_to_geolocation` of its wheel is a transverse Mercator projection
scaled by 0.9996, and its latitude grows with y, where the leaderboards' (and a compass's) north is -y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EARTH_RADIUS_M = 6378137.0
"""LibCarla, `carla/geom/GeoLocation.cpp`, and the leaderboard's `utils/route_manipulation.py`."""

ROUNDS = 8
"""Iterations of the estimate; each shrinks the error more than a thousandfold."""


@dataclass(frozen=True)
class GeoReference:
    """Where the world's origin lies: a Mercator projection, scaled by the cosine of the origin's latitude.

    Source: leaderboard, `utils/route_manipulation.py` (`_location_to_gps`); `to_world` is its inverse.

    Attributes:
        latitude: of the world's origin, degrees (`+lat_0` of the map's geoReference).
        longitude: likewise (`+lon_0`).
    """

    latitude: float = 0.0
    longitude: float = 0.0

    @classmethod
    def estimate(cls, latitude: float, longitude: float, x: float, y: float) -> GeoReference:
        """The reference under which that place has these world coordinates.

        A leaderboard tells its agents no reference, but the same plan in both systems.

        Args:
            latitude: of the place, degrees.
            longitude: of the place, degrees.
            x: of the place in the world, metres.
            y: likewise.
        """
        origin = latitude
        for _ in range(ROUNDS):  # the scale depends on the origin that is looked for, but hardly
            origin = _latitude(_mercator(latitude) + y / (EARTH_RADIUS_M * math.cos(math.radians(origin))))
        scale = math.cos(math.radians(origin))
        return cls(origin, longitude - math.degrees(x / (EARTH_RADIUS_M * scale)))

    def to_world(self, latitude: float, longitude: float) -> tuple[float, float]:
        """World x and y, metres, of a place in degrees."""
        scale = EARTH_RADIUS_M * math.cos(math.radians(self.latitude))
        x = scale * math.radians(longitude - self.longitude)
        return x, scale * (_mercator(self.latitude) - _mercator(latitude))


def _mercator(latitude: float) -> float:
    return math.log(math.tan(math.radians(90.0 + latitude) / 2.0))


def _latitude(mercator: float) -> float:
    return math.degrees(2.0 * math.atan(math.exp(mercator))) - 90.0
