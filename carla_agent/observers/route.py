"""The route that a car follows: points with road options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import DrivingError

Points = NDArray[np.float64]

TURN_DEG = 35.0
"""Degrees of a junction's lane beyond which it is a turn: carla's `agents/navigation/local_planner.py`."""


class RoadOption(IntEnum):
    """What to do from a point on; names and numbers of carla's `agents/navigation/local_planner.py`."""

    VOID = -1
    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANEFOLLOW = 4
    CHANGELANELEFT = 5
    CHANGELANERIGHT = 6


@dataclass(frozen=True, eq=False)
class Plan:
    """A route's points, in order.

    Attributes:
        points: world x and y, metres; float64 (N, 2), N ≥ 1.
        options: the RoadOption at each point; int64 (N,).
        in_junction: whether each point lies in a junction; bool (N,). All False where it is unknown.
    """

    points: Points
    options: NDArray[np.int64]
    in_junction: NDArray[np.bool_]


class Route:
    """The plan that is driven now. Observers are made with a route before its plan is known."""

    def __init__(self) -> None:
        self.plan: Plan | None = None

    def replace(self, plan: Plan) -> None:
        """Takes the plan of a new route; the observers' `reset` begins it."""
        self.plan = plan


def _plan(points: Sequence[tuple[float, float]], options: Sequence[int], in_junction: Sequence[bool]) -> Plan:
    if not points:
        raise DrivingError("the route has no points")
    return Plan(np.array(points, np.float64), np.array(options, np.int64), np.array(in_junction, np.bool_))


def plan_from_world(plan: Sequence[tuple[Any, Any]], road_map: Any = None) -> Plan:
    """The plan of a leaderboard in world coordinates.

    Args:
        plan: (`carla.Transform`, RoadOption) per point: what `set_global_plan` gets, or the agent's
            `_global_plan_world_coord`.
        road_map: a `carla.Map`, where the plan shall know its junctions.

    Raises:
        DrivingError: the plan is empty.
    """
    places = [transform.location for transform, _ in plan]
    junctions = [road_map is not None and road_map.get_waypoint(place).is_junction for place in places]
    return _plan([(place.x, place.y) for place in places], _options(plan), junctions)


def _options(plan: Sequence[tuple[Any, Any]]) -> list[int]:
    return [int(getattr(option, "value", option)) for _, option in plan]


def plan_from_lanes(road_map: Any, start: Any, length_m: float, step_m: float = 2.0, branch: int = 0) -> Plan:
    """A plan along the lanes ahead, for driving without a leaderboard.

    Args:
        road_map: a `carla.Map`.
        start: the `carla.Location` to begin at.
        length_m: metres; less where the road ends before.
        step_m: metres between two points.
        branch: which lane to take where several go on, counted as `Waypoint.next` lists them.

    Raises:
        DrivingError: no lane is near `start`.
    """
    waypoint = road_map.get_waypoint(start)
    if waypoint is None:
        raise DrivingError(f"no lane is near x {start.x:.1f}, y {start.y:.1f}")
    waypoints = [waypoint]
    while len(waypoints) * step_m < length_m:
        ahead = waypoints[-1].next(step_m)
        if not ahead:
            break
        waypoints.append(ahead[branch % len(ahead)])
    places = [each.transform.location for each in waypoints]
    junctions = [each.is_junction for each in waypoints]
    yaws = [each.transform.rotation.yaw for each in waypoints]
    return _plan([(place.x, place.y) for place in places], _turns(yaws, junctions), junctions)


def _turns(yaws: Sequence[float], junctions: Sequence[bool]) -> list[int]:
    """LANEFOLLOW outside of junctions; inside, the side to which the lane turns from its first point to its last."""
    options = [int(RoadOption.LANEFOLLOW)] * len(yaws)
    at = 0
    while at < len(yaws):
        end = at + 1
        while end < len(yaws) and junctions[end] and junctions[at]:
            end += 1
        if junctions[at]:
            turned = (yaws[min(end, len(yaws) - 1)] - yaws[max(at - 1, 0)] + 180.0) % 360.0 - 180.0
            side = RoadOption.RIGHT if turned > 0 else RoadOption.LEFT
            options[at:end] = [int(side if abs(turned) > TURN_DEG else RoadOption.STRAIGHT)] * (end - at)
        at = end
    return options
