"""A town of crossing streets with traffic, for observers that need neither a simulator nor a client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import carla
import numpy as np

from carla_agent.observers.ego import Ego
from carla_agent.observers.route import Plan, Route

STREETS, APART_M = 6, 80.0
LENGTH_M = (STREETS - 1) * APART_M
LANE_M, SPEED_MPS, HZ = 3.5, 10.0, 20.0

_LANE = (
    '<lane id="{id}" type="{kind}" level="false"><link/><width sOffset="0" a="{width}" b="0" c="0" d="0"/>'
    '<roadMark sOffset="0" type="{mark}" color="white" width="0.15"/></lane>'
)
_ROAD = (
    '<road name="{id}" length="{length}" id="{id}" junction="-1"><link/><planView>'
    '<geometry s="0" x="{x}" y="{y}" hdg="{heading}" length="{length}"><line/></geometry></planView>'
    '<elevationProfile/><lateralProfile/><lanes><laneSection s="0"><left>{left}</left><center><lane id="0" type="none" '
    'level="false"><roadMark sOffset="0" type="broken" color="white" width="0.15"/></lane></center>'
    "<right>{right}</right></laneSection></lanes></road>"
)


def make_map() -> carla.Map:
    """STREETS streets each way, with two lanes and a shoulder on both sides."""
    kinds = ((1, "driving", LANE_M, "broken"), (2, "driving", LANE_M, "solid"), (3, "shoulder", 2.0, "none"))
    left, right = (
        "".join(
            _LANE.format(id=side * number, kind=kind, width=width, mark=mark) for number, kind, width, mark in order
        )
        for side, order in ((1, reversed(kinds)), (-1, kinds))
    )
    roads = ""
    for number in range(STREETS):
        for heading, x, y in ((0.0, 0.0, -number * APART_M), (-np.pi / 2, number * APART_M, 0.0)):
            roads += _ROAD.format(
                id=2 * number + bool(heading), length=LENGTH_M, x=x, y=y, heading=heading, left=left, right=right
            )
    header = '<header revMajor="1" revMinor="4"><geoReference>+proj=tmerc +lat_0=0 +lon_0=0</geoReference></header>'
    return carla.Map("streets", f'<?xml version="1.0"?><OpenDRIVE>{header}{roads}</OpenDRIVE>')


@dataclass
class Actor:
    """A car, a walker or a traffic light that stands."""

    id: int
    type_id: str
    transform: carla.Transform
    bounding_box: carla.BoundingBox
    trigger_volume: carla.BoundingBox
    state: carla.TrafficLightState = carla.TrafficLightState.Red

    def get_transform(self) -> carla.Transform:
        return self.transform

    def get_velocity(self) -> carla.Vector3D:
        return carla.Vector3D(3.0, 0.0, 0.0)


def make_actors(the_map: carla.Map, count: int) -> list[Actor]:
    """Cars and walkers at random places of the streets, two to one, and a traffic light every APART_M metres."""
    rng, actors = np.random.default_rng(0), []
    for number in range(count):
        place = carla.Location(*rng.uniform(0, LENGTH_M, 2).tolist(), 0.0)
        kind, half = ("vehicle.car", (2.4, 1.0)) if number % 3 else ("walker.pedestrian", (0.3, 0.3))
        box = carla.BoundingBox(carla.Location(), carla.Vector3D(*half, 0.8))
        actors.append(Actor(number + 1, kind, the_map.get_waypoint(place).transform, box, box))
    volume = carla.BoundingBox(carla.Location(), carla.Vector3D(LANE_M, 1.0, 1.0))
    for number in range(1, STREETS):
        place = carla.Location(number * APART_M - 12.0, 2 * APART_M + LANE_M, 0.0)
        turned = carla.Transform(place, carla.Rotation(yaw=90.0))
        actors.append(Actor(1000 + number, "traffic.traffic_light", turned, volume, volume))
    return actors


@dataclass
class Tick:
    """A tick of a world at HZ."""

    frame: int

    @property
    def timestamp(self) -> Tick:
        return self

    @property
    def elapsed_seconds(self) -> float:
        return self.frame / HZ


class DrivingEgo:
    """A car that drives along a street through the town, swaying a little, and begins again at the end."""

    unknown = MappingProxyType({})

    def read(self, snapshot: Any) -> Ego:
        x, y = 40.0 + snapshot.frame * SPEED_MPS / HZ % (LENGTH_M - 80.0), 2 * APART_M + LANE_M / 2
        sway = 5.0 * np.sin(snapshot.frame / 10)
        zero = (0.0, 0.0, 0.0)
        return Ego(
            snapshot.frame, snapshot.frame / HZ, (x, y, 0.0), 0.0, sway, 0.0,
            (SPEED_MPS, 0.0, 0.0), zero, zero, 0.3, 0.0, 0.0, 1, 50.0,
        )  # fmt: skip


def make_route() -> Route:
    """Along that street, a point every metre."""
    points = np.array([(x, 2 * APART_M + LANE_M / 2) for x in np.arange(40.0, LENGTH_M)])
    route = Route()
    route.replace(Plan(points, np.full(len(points), 4), np.zeros(len(points), dtype=np.bool_)))
    return route


def ticks(count: int) -> Iterator[Tick]:
    """So many, one after the other."""
    return (Tick(frame) for frame in range(count))
