"""Degrees and metres convert as the leaderboards and their simulators do."""

from __future__ import annotations

import math

import pytest
from given_ego import to_degrees

from carla_agent.observers.geo import EARTH_RADIUS_M, GeoReference

ORIGINS = [(0.0, 0.0), (49.0, 8.0), (-33.5, 151.25)]


@pytest.mark.parametrize(("latitude", "longitude"), ORIGINS)
def test_the_world_is_a_mercator_map_whose_north_is_minus_y(latitude: float, longitude: float):
    reference = GeoReference(latitude, longitude)
    scale = EARTH_RADIUS_M * math.cos(math.radians(latitude))
    for north, east in [(0.0, 0.0), (0.003, -0.004), (-0.05, 0.02)]:
        # A Mercator map's ordinate is the inverse hyperbolic tangent of the latitude's sine.
        up = math.atanh(math.sin(math.radians(latitude + north))) - math.atanh(math.sin(math.radians(latitude)))
        expected = (scale * math.radians(east), -scale * up)
        assert reference.to_world(latitude + north, longitude + east) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("latitude", "longitude"), ORIGINS)
def test_the_reference_is_found_from_one_place_known_in_both(latitude: float, longitude: float):
    place = to_degrees(GeoReference(latitude, longitude), 2500.0, -1800.0)
    found = GeoReference.estimate(*place, 2500.0, -1800.0)
    assert (found.latitude, found.longitude) == pytest.approx((latitude, longitude), abs=1e-9)
