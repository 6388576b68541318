"""Commands and target points follow the car along its route, in the conventions of the policies they were made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from given_ego import GivenEgo, at_tick, standing_car

from carla_agent.observers.guidance import Command, TargetPoint
from carla_agent.observers.progress import Passed, Reached
from carla_agent.observers.route import Plan, RoadOption, Route
from carla_mlflow import DrivingError


def route_of(points: Sequence[tuple[float, float]], options: Sequence[int], junctions: Sequence[int] = ()) -> Route:
    route = Route()
    inside = np.zeros(len(points), np.bool_)
    inside[list(junctions)] = True
    route.replace(Plan(np.array(points, np.float64), np.array(options, np.int64), inside))
    return route


SPARSE = route_of([(0, 0), (30, 0), (60, 0), (60, 40)], [4, 3, 1, 4])
"""Straight on at x = 30, left into y at x = 60."""


def driving(observer: Command | TargetPoint, ego: GivenEgo, x: float, y: float, yaw: float = 0.0) -> list[float]:
    ego.car = replace(standing_car(), location=(x, y, 0.0), yaw=yaw)
    (array,) = observer.observe(at_tick(1)).values()
    return np.ravel(array).tolist()


def test_the_target_is_the_point_after_the_one_that_is_reached_in_the_cars_axes():
    ego = GivenEgo(standing_car())
    target = TargetPoint(SPARSE, ego)
    assert driving(target, ego, 0, 0) == [30, 0]
    assert driving(target, ego, 22, 1) == [8, -1]
    assert driving(target, ego, 23, 1) == [37, -1]  # 30, 0 is within 7.5 m
    assert driving(target, ego, 22, 1) == [38, -1]  # and stays reached
    assert driving(target, ego, 60, 0, yaw=90) == pytest.approx([40, 0], abs=1e-5)
    assert driving(target, ego, 60, 41, yaw=90) == pytest.approx([-1, 0], abs=1e-5)  # the last point stays the target
    target.reset()
    assert driving(target, ego, 0, 0) == [30, 0]


def test_the_point_after_the_target_can_be_asked_for_and_bounds_clip():
    ego = GivenEgo(standing_car())
    assert driving(TargetPoint(SPARSE, ego, skip=1), ego, 0, 0) == [60, 0]
    assert driving(TargetPoint(SPARSE, ego, skip=9, low=-35.0, high=35.0), ego, 0, 0) == [35, 35]


def test_carls_target_is_the_junction_that_the_car_is_in_or_the_routes_end():
    ego = GivenEgo(standing_car())
    dense = route_of([(float(x), 0.0) for x in range(20)], [4] * 20, junctions=range(5, 8))
    target = TargetPoint(dense, ego, rule="carl")
    seen = [driving(target, ego, x + 0.5, 0.5)[0] for x in range(10)]
    assert seen == [18.5, 17.5, 16.5, 15.5, 14.5, -0.5, -0.5, -0.5, 10.5, 9.5]


def test_points_beyond_carls_target_are_refused():
    with pytest.raises(DrivingError, match="target_point: skip 1 is for the rule transfuser only"):
        TargetPoint(SPARSE, GivenEgo(standing_car()), rule="carl", skip=1)


def test_a_command_is_that_of_the_reached_point_or_of_the_target():
    ego = GivenEgo(standing_car())
    command, number = Command(SPARSE, ego), Command(SPARSE, ego, encoding="1-6", dtype="uint8", of="target")
    assert driving(command, ego, 0, 0) == [0, 0, 0, 1, 0, 0]
    assert driving(number, ego, 0, 0) == [RoadOption.STRAIGHT]
    assert driving(command, ego, 30, 0) == [0, 0, 1, 0, 0, 0]
    assert driving(number, ego, 30, 0) == [RoadOption.LEFT]
    assert number.observe(at_tick(1))["command"].dtype == np.uint8


def test_void_is_lane_follow_and_numbers_can_begin_at_zero():
    ego = GivenEgo(standing_car())
    route = route_of([(0, 0), (50, 0)], [RoadOption.VOID, RoadOption.LEFT])
    assert driving(Command(route, ego, encoding="0-5"), ego, 0, 0) == [3]
    assert driving(Command(route, ego, encoding="0-5", of="target"), ego, 0, 0) == [0]


def test_there_is_no_command_before_a_route_is_known():
    ego = GivenEgo(standing_car())
    assert Command(Route(), ego).observe(at_tick(1)) is None
    assert TargetPoint(Route(), ego).observe(at_tick(1)) is None


def test_an_unknown_encoding_is_refused():
    with pytest.raises(DrivingError, match="cmd: encoding '6'; expected one_hot, 1-6 or 0-5"):
        Command(Route(), GivenEgo(standing_car()), "cmd", encoding="6")


def test_points_are_passed_in_order_and_a_route_that_comes_back_is_not_cut_short():
    around = [(x, 0) for x in range(10)] + [(9, y) for y in range(1, 10)] + [(x, 9) for x in range(8, -1, -1)]
    loop = route_of([*around, *((0, y) for y in range(8, -1, -1))], [4] * 36).plan
    passed = Passed()
    assert [passed.advance(loop, x + 0.5, y) for x, y in around[:8]] == list(range(8))
    far = route_of([(0, 0), (40, 0), (40, 40), (1, 1)], [4] * 4).plan
    assert Reached().advance(far, 0.5, 0.0) == 0  # the end is near, but more than 50 m along the route
