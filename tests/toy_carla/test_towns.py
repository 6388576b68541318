"""The towns' own geometry against what `carla.Map` reads in their OpenDRIVE file."""

from __future__ import annotations

import math
import random

import carla
import pytest

from toy_carla.towns import TOWNS


@pytest.mark.parametrize("name", TOWNS)
def test_road_is_where_carla_sees_a_lane(name: str) -> None:
    town, draw = TOWNS[name](), random.Random(0)
    chart = carla.Map(name, town.opendrive)
    differing = 0
    for _ in range(5000):
        x, y = draw.uniform(-130, 140), draw.uniform(-130, 130)
        seen = chart.get_waypoint(carla.Location(x, y), project_to_road=False) is not None
        differing += seen != town.is_road(x, y)
    assert differing <= 5  # carla.Map takes bends for chains of lines, so that the very edge differs


@pytest.mark.parametrize("name", TOWNS)
def test_spawn_points_lie_on_lanes_and_look_along_them(name: str) -> None:
    town = TOWNS[name]()
    chart = carla.Map(name, town.opendrive)
    for x, y, yaw in town.spawn_points:
        lane = chart.get_waypoint(carla.Location(x, y)).transform
        assert math.hypot(lane.location.x - x, lane.location.y - y) < 0.3
        assert abs((lane.rotation.yaw - yaw + 180) % 360 - 180) < 1.0


@pytest.mark.parametrize("name", TOWNS)
def test_no_lane_ends(name: str) -> None:
    chart, draw = carla.Map(name, TOWNS[name]().opendrive), random.Random(0)
    place = chart.get_waypoint(carla.Location(50.0, 2.0))
    for _ in range(1500):
        following = place.next(2.0)
        assert following, f"road {place.road_id}, lane {place.lane_id}, s = {place.s:.1f} m"
        place = draw.choice(following)


def test_the_crossing_can_be_left_in_three_ways_from_each_arm() -> None:
    town = TOWNS["crossing"]()
    chart = carla.Map("crossing", town.opendrive)
    for x, y in ((21.0, -2.5), (-2.5, -21.0), (-21.0, 2.5), (2.5, 21.0)):
        assert len(chart.get_waypoint(carla.Location(x, y)).next(3.0)) == 3
    assert len(chart.get_all_landmarks_of_type("1000001")) == 4
