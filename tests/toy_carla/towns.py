"""The towns that are there: a ring of two lanes, and two loops that cross at a junction.

A town speaks CARLA's axes (x forward or east, y right or south, yaw in degrees clockwise seen from above); the roads in
it speak OpenDRIVE's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from .opendrive import JUNCTION, Connection, write
from .roads import Lane, LaneLinks, Road, Segment, Signal

Pose = tuple[float, float, float]
"""x and y in metres and yaw in degrees, in CARLA's axes."""

LANE_WIDTH = 5.0
"""As in highway-env's racetrack, on which the example policy was trained."""
SPEED_LIMIT_KMH = 30.0
SPAWN_STEP_M = 20.0
JUNCTION_LINK = ("junction", JUNCTION)
ORIGIN = (42.0, 2.0)
"""Latitude and longitude of x = y = 0, degrees."""


@dataclass(frozen=True)
class LanePlace:
    """A place on a lane: the road, metres along the reference line and to its left, and the lane there."""

    road: Road
    s: float
    t: float
    lane: Lane


@dataclass(frozen=True)
class Town:
    """Roads that lie on even ground."""

    name: str
    roads: tuple[Road, ...]
    connections: tuple[Connection, ...] = ()

    @cached_property
    def opendrive(self) -> str:
        return write(self.name, self.roads, self.connections, SPEED_LIMIT_KMH, *ORIGIN)

    def places(self, x: float, y: float) -> list[LanePlace]:
        """Every lane that the point lies on; none where it is off the road, several in a junction."""
        return [
            LanePlace(road, s, t, lane)
            for road in self.roads
            for s, t in road.locate(x, -y)
            if (lane := road.lane_at(t)) is not None
        ]

    def is_road(self, x: float, y: float) -> bool:
        """Whether the point lies on a lane. There are no shoulders: the road ends where its outer lanes end."""
        return bool(self.places(x, y))

    def lane_pose(self, road: Road, lane: Lane, s: float) -> Pose:
        """The lane's centre at `s` metres of its reference line, looking as its traffic drives."""
        x, y, heading = road.at(s, road.center(lane))
        yaw = -math.degrees(heading) + (180.0 if lane.id > 0 else 0.0)
        return x, -y, (yaw + 180.0) % 360.0 - 180.0

    def next_lanes(self, road: Road, lane: Lane) -> list[tuple[Road, Lane]]:
        """Where its traffic can go at the end of a lane."""
        other = road.after if lane.id < 0 else road.before
        if other is None:
            return []
        if other[0] == "junction":
            ways = [way for way in self.connections if way.incoming == road.id and way.from_lane == lane.id]
            return [self._lane(way.connecting, way.to_lane) for way in ways]
        number = road.lane_links[lane.id][1 if lane.id < 0 else 0]
        return [] if number is None else [self._lane(other[1], number)]

    def _lane(self, road_id: int, lane_id: int) -> tuple[Road, Lane]:
        road = next(road for road in self.roads if road.id == road_id)
        return road, next(lane for lane in road.lanes if lane.id == lane_id)

    @cached_property
    def spawn_points(self) -> tuple[Pose, ...]:
        """Every SPAWN_STEP_M metres on each lane, outside junctions."""
        return tuple(
            self.lane_pose(road, lane, (number + 0.5) * road.length / count)
            for road in self.roads
            if road.junction < 0
            for lane in road.lanes
            for count in [max(int(road.length / SPAWN_STEP_M), 1)]
            for number in range(count)
        )


def make_ring() -> Town:
    """An oval of two lanes, driven against the clock: straights of 100 m, bends of 27.5 m and 32.5 m radius."""
    straight, radius = 100.0, 25.0
    bend = math.pi * radius
    pieces = (
        Segment(0.0, 0.0, 0.0, straight),
        Segment(straight, 0.0, 0.0, bend, 1 / radius),
        Segment(straight, 2 * radius, math.pi, straight),
        Segment(0.0, 2 * radius, math.pi, bend, 1 / radius),
    )
    lanes = (Lane(-1, LANE_WIDTH, "broken"), Lane(-2, LANE_WIDTH))
    roads = tuple(
        Road(
            number,
            (piece,),
            lanes,
            before=("road", (number - 1) % 4, "end"),
            after=("road", (number + 1) % 4, "start"),
            lane_links={-1: (-1, -1), -2: (-2, -2)},
        )
        for number, piece in enumerate(pieces)
    )
    return Town("ring", roads)


def make_crossing() -> Town:
    """Two loops of one lane each way that meet at a junction with traffic lights.

    The first loop leaves the junction to the east and comes back from the north, the second one leaves it to the west
    and comes back from the south. From each arm one can turn left, turn right, or go straight on.
    """
    half, arm, radius = 20.0, 40.0, 60.0
    bend = (
        0.75 * math.pi * radius
    )  # half of a loop's bend: each arm is a road of its own, which ends in the middle of it
    lanes, arms = (Lane(1, LANE_WIDTH), Lane(-1, LANE_WIDTH)), []
    for number, side in enumerate((1.0, -1.0)):
        turned = 0.0 if side > 0 else math.pi
        curve = Segment(side * (half + arm), 0.0, turned, bend, 1 / radius)
        out, back = 2 * number, 2 * number + 1
        leaving = (Segment(side * half, 0.0, turned, arm), curve)
        coming = (
            Segment(*curve.end, bend, 1 / radius),
            Segment(0.0, side * (half + arm), turned + 1.5 * math.pi, arm),
        )
        links: LaneLinks = {1: (None, 1), -1: (None, -1)}
        light = Signal(10 + out, 1.0, False)
        arms.append(Road(out, leaving, lanes, JUNCTION_LINK, ("road", back, "start"), links, -1, "broken", (light,)))
        links = {1: (1, None), -1: (-1, None)}
        light = Signal(10 + back, arm + bend - 1.0, True)
        arms.append(Road(back, coming, lanes, ("road", out, "end"), JUNCTION_LINK, links, -1, "broken", (light,)))
    ways, connections = _connect(arms, half)
    return Town("crossing", (*arms, *ways), tuple(connections))


def _connect(roads: list[Road], half: float) -> tuple[list[Road], list[Connection]]:
    """The connecting roads of the junction: from each arm, named by where it lies, to the other three."""
    arms = {0: (roads[0], "start"), 90: (roads[1], "end"), 180: (roads[2], "start"), 270: (roads[3], "end")}
    ways: list[Road] = []
    connections: list[Connection] = []
    for here, (road, end) in arms.items():
        heading = math.radians(here + 180)
        x, y = half * math.cos(math.radians(here)), half * math.sin(math.radians(here))
        for turn in (-90, 0, 90):  # right, straight on, left
            there, goal_end = arms[(here + 180 + turn) % 360]
            length = 2 * half if turn == 0 else half * math.pi / 2
            number = 100 + len(ways)
            from_lane, to_lane = (1 if end == "start" else -1), (-1 if goal_end == "start" else 1)
            ways.append(
                Road(
                    number,
                    (Segment(x, y, heading, length, math.copysign(1 / half, turn) if turn else 0.0),),
                    (Lane(-1, LANE_WIDTH, "none"),),
                    before=("road", road.id, end),
                    after=("road", there.id, goal_end),
                    lane_links={-1: (from_lane, to_lane)},
                    junction=JUNCTION,
                    center_mark="none",
                )
            )
            connections.append(Connection(road.id, number, from_lane, -1))
    return ways, connections


TOWNS: dict[str, Callable[[], Town]] = {"ring": make_ring, "crossing": make_crossing}
"""The towns by the last part of their name in CARLA, such as `Carla/Maps/ring`."""
