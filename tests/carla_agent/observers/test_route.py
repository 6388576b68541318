"""A route comes from a leaderboard's plan or from the lanes ahead, and knows its commands."""

from __future__ import annotations

from types import SimpleNamespace

import carla
import numpy as np
import pytest
from given_ego import turning_map

from carla_agent.observers.route import Plan, RoadOption, plan_from_lanes, plan_from_world
from carla_mlflow import DrivingError


def world_plan() -> list[tuple[carla.Transform, SimpleNamespace]]:
    """Like a leaderboard's: its options are an enum of another module."""
    options = [RoadOption.LANEFOLLOW, RoadOption.LEFT, RoadOption.VOID]
    places = [(10.0, 5.0), (60.0, 5.0), (60.0, 40.0)]
    return [
        (carla.Transform(carla.Location(x, y, 0.5)), SimpleNamespace(value=int(option)))
        for (x, y), option in zip(places, options, strict=True)
    ]


def test_a_leaderboards_plan_keeps_its_points_and_options():
    plan = plan_from_world(world_plan())
    assert plan.points.tolist() == [[10.0, 5.0], [60.0, 5.0], [60.0, 40.0]]
    assert plan.options.tolist() == [4, 1, -1]
    assert plan.in_junction.tolist() == [False] * 3


def along(road_map: carla.Map, **options: float) -> Plan:
    return plan_from_lanes(road_map, carla.Location(1.0, 1.5, 0.0), **options)


def test_a_plan_follows_the_lanes_through_a_junction():
    road_map = turning_map()
    plan = along(road_map, length_m=100.0)
    steps = np.hypot(*(plan.points[1:] - plan.points[:-1]).T)
    assert steps == pytest.approx(2.0, abs=0.4)  # the lane's outside is longer than the road's middle
    inside = plan.in_junction
    assert inside.any()
    assert set(plan.options[inside].tolist()) == {RoadOption.LEFT}  # CARLA's y points to the right: up is left
    assert set(plan.options[~inside].tolist()) == {RoadOption.LANEFOLLOW}
    assert plan.points[-1][1] < -20


def test_a_plan_ends_where_the_road_ends():
    assert len(along(turning_map(), length_m=10_000.0).points) < 100


def test_a_leaderboards_plan_learns_its_junctions_from_the_map():
    road_map = turning_map()
    plan = along(road_map, length_m=100.0)
    transforms = [carla.Transform(carla.Location(x, y, 0.0)) for x, y in plan.points]
    again = plan_from_world([(transform, RoadOption.VOID) for transform in transforms], road_map)
    assert again.in_junction.tolist() == plan.in_junction.tolist()


def test_a_plan_without_points_is_refused():
    with pytest.raises(DrivingError, match="the route has no points"):
        plan_from_world([])
