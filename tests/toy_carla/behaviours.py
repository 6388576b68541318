"""Actors that move by themselves: cars that follow their lane, walkers that walk along a path."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from .actors import Actor, Vehicle, Walker
from .roads import Lane, Road
from .towns import Town
from .vehicles import MAX_ACCELERATION, MAX_WHEEL_ANGLE, WHEELBASE_M

CRUISE_MPS = 6.0
LOOK_AHEAD_M = 6.0
HEADWAY_S = 1.5
SIDE_M = 2.0
"""How far beside a car's nose something still lies in its way."""
MAX_LANES = 6
"""How many lanes ahead a car looks for itself."""


@dataclass
class FollowLane:
    """Drives along a lane by pure pursuit, behind what drives ahead, and stops at red lights.

    Attributes:
        speed: at which it cruises, m/s.
        choices: draws the way at a junction; seeded, so that every run takes the same ways.
    """

    speed: float = CRUISE_MPS
    choices: random.Random = field(default_factory=lambda: random.Random(0))
    _way: list[tuple[Road, Lane]] = field(default_factory=list)

    def act(self, car: Vehicle, town: Town, others: Iterable[Actor], must_stop: bool) -> None:
        """Sets the car's control for the next tick."""
        target = self._target(car, town)
        if target is None:
            car.control[:3] = [0.0, 0.0, 1.0]
            return
        (x, y, _), yaw = car.transform.location, math.radians(car.transform.yaw)
        dx, dy = target[0] - x, target[1] - y
        ahead, right = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
        curvature = 2 * right / max(ahead**2 + right**2, 1.0)
        beta = math.asin(max(-0.9, min(curvature * WHEELBASE_M / 2, 0.9)))
        steer = math.atan(2 * math.tan(beta)) / MAX_WHEEL_ANGLE
        wanted = 0.0 if must_stop else min(self.speed, self._gap(car, others) / HEADWAY_S)
        push = max(-1.0, min((wanted - car.speed) / (0.5 * MAX_ACCELERATION), 1.0))
        car.control[:3] = [max(push, 0.0), max(-1.0, min(steer, 1.0)), max(-push, 0.0)]

    def _target(self, car: Vehicle, town: Town) -> tuple[float, float] | None:
        """A point LOOK_AHEAD_M further along the lane; None where there is no lane to follow."""
        x, y, _ = car.transform.location
        if not self._way:
            places = [(place.road, place.lane) for place in town.places(x, y)]
            places.sort(key=lambda place: _turned(town, place, x, y, car.transform.yaw))
            if not places:
                return None
            self._way = [places[0]]
        for _ in range(MAX_LANES):
            along = _along(*self._way[0], x, y)
            if along is not None and along < self._way[0][0].length - 1e-3:
                return self._point(town, along + LOOK_AHEAD_M)
            if len(self._way) == 1 and not self._extend(town):
                return None
            self._way.pop(0)
        self._way.clear()  # it was moved away: where it is now is looked up at the next tick
        return None

    def _point(self, town: Town, along: float) -> tuple[float, float] | None:
        """The centre of the way that many metres from the start of its first lane; None where the way ends before."""
        for number in range(MAX_LANES):
            if number == len(self._way) and not self._extend(town):
                return None
            road, lane = self._way[number]
            if along <= road.length:
                return town.lane_pose(road, lane, along if lane.id < 0 else road.length - along)[:2]
            along -= road.length
        return None

    def _extend(self, town: Town) -> bool:
        following = town.next_lanes(*self._way[-1])
        if following:
            self._way.append(self.choices.choice(following))
        return bool(following)

    def _gap(self, car: Vehicle, others: Iterable[Actor]) -> float:
        """Free metres ahead of the bumper, at most 50."""
        (x, y, _), yaw = car.transform.location, math.radians(car.transform.yaw)
        free = 50.0
        for other in others:
            dx, dy = other.transform.location[0] - x, other.transform.location[1] - y
            ahead, right = dx * math.cos(yaw) + dy * math.sin(yaw), dy * math.cos(yaw) - dx * math.sin(yaw)
            if other.id != car.id and ahead > 0 and abs(right) < SIDE_M:
                free = min(free, ahead - car.box.extent[0] - other.box.extent[0] - 2.0)
        return max(free, 0.0)


def _along(road: Road, lane: Lane, x: float, y: float) -> float | None:
    """Metres driven on that lane, whichever way it goes; None for a point beside neither of the road's pieces."""
    places = [s for s, t in road.locate(x, -y) if abs(t - road.center(lane)) < 2 * lane.width]
    if not places:
        return None
    return places[0] if lane.id < 0 else road.length - places[0]


def _turned(town: Town, place: tuple[Road, Lane], x: float, y: float, yaw: float) -> float:
    """Degrees between the lane's direction there and that of a car."""
    road, lane = place
    along = _along(road, lane, x, y) or 0.0
    heading = town.lane_pose(road, lane, along if lane.id < 0 else road.length - along)[2]
    return abs((heading - yaw + 180.0) % 360.0 - 180.0)


@dataclass
class WalkAlong:
    """Walks from point to point and stops at the last one.

    Attributes:
        path: points that are still ahead, in CARLA's axes.
        speed: m/s.
        starts: simulated seconds at which it begins.
    """

    path: list[tuple[float, float]]
    speed: float = 1.4
    starts: float = 0.0

    def act(self, walker: Walker, now: float, seconds: float) -> None:
        """Sets the walker's control for the next tick of that length."""
        x, y, _ = walker.transform.location
        while self.path and math.hypot(self.path[0][0] - x, self.path[0][1] - y) < 1e-3:
            self.path.pop(0)
        if not self.path or now < self.starts:
            walker.control = [[1.0, 0.0, 0.0], 0.0, False]
            return
        dx, dy = self.path[0][0] - x, self.path[0][1] - y
        far = math.hypot(dx, dy)
        walker.control = [[dx / far, dy / far, 0.0], min(self.speed, far / seconds), False]
