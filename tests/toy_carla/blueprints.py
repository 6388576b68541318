"""The blueprints that can be spawned, with the names and attributes that CARLA gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .actors import NO_BOX, Box

BOOL, INT, FLOAT, STRING, COLOR = range(1, 6)
"""Attribute types, as `carla.ActorAttributeType.values` of 0.9.16 numbers them."""


@dataclass(frozen=True)
class Blueprint:
    """What can be spawned.

    Attributes:
        attributes: name, type, recommended values of which the first is the default, and whether they can be set.
        box: of the actor.
    """

    id: str
    tags: str
    attributes: tuple[tuple[str, int, tuple[str, ...], bool], ...]
    box: Box = NO_BOX

    def definition(self, uid: int) -> list[Any]:
        """As rpc/ActorDefinition.h lays it out."""
        listed = [[name, kind, values[0], list(values), free, False] for name, kind, values, free in self.attributes]
        return [uid, self.id, self.tags, listed]

    def description(self, uid: int) -> list[Any]:
        """An actor of this blueprint with its default attributes (rpc/ActorDescription.h)."""
        return [uid, self.id, [[name, kind, values[0]] for name, kind, values, _ in self.attributes]]


def _fixed(name: str, kind: int, value: str) -> tuple[str, int, tuple[str, ...], bool]:
    return (name, kind, (value,), False)


def _free(name: str, kind: int, *values: str) -> tuple[str, int, tuple[str, ...], bool]:
    return (name, kind, values, True)


def _vehicle(name: str, base: str, length: float, width: float, height: float) -> Blueprint:
    attributes = (
        _free("role_name", STRING, "autopilot", "scenario", "ego_vehicle", "hero"),
        _free("color", COLOR, "180,30,30", "30,60,180", "230,230,230"),
        _fixed("number_of_wheels", INT, "4"),
        _fixed("base_type", STRING, base),
        _fixed("generation", INT, "2"),
    )
    half = (length / 2, width / 2, height / 2)
    return Blueprint(
        f"vehicle.{name}", ",".join(["vehicle", *name.split(".")]), attributes, Box((0.0, 0.0, half[2]), half)
    )


def _walker(name: str) -> Blueprint:
    attributes = (
        _free("role_name", STRING, "pedestrian"),
        _free("is_invincible", BOOL, "true"),
        _free("speed", FLOAT, "0.0", "1.4", "2.5"),
        _fixed("gender", STRING, "female"),
    )
    # A walker's origin is its middle, as in CARLA: spawned at z = 1 it stands on the ground.
    return Blueprint(
        f"walker.pedestrian.{name}", f"walker,pedestrian,{name}", attributes, Box((0.0, 0.0, 0.0), (0.25, 0.25, 0.9))
    )


def _sensor(name: str, *attributes: tuple[str, int, tuple[str, ...], bool]) -> Blueprint:
    common = (_free("role_name", STRING, "front"), _free("sensor_tick", FLOAT, "0.0"))
    return Blueprint(f"sensor.{name}", ",".join(["sensor", *name.split(".")]), (*common, *attributes))


BLUEPRINTS: dict[str, Blueprint] = {
    one.id: one
    for one in (
        _vehicle("lincoln.mkz_2020", "car", 5.0, 2.0, 1.5),
        _vehicle("tesla.model3", "car", 5.0, 2.0, 1.5),
        _vehicle("audi.tt", "car", 4.2, 2.0, 1.4),
        _vehicle("carlamotors.firetruck", "truck", 8.4, 2.9, 3.8),
        _walker("0001"),
        _walker("0002"),
        _sensor(
            "camera.rgb",
            _free("image_size_x", INT, "800"),
            _free("image_size_y", INT, "600"),
            _free("fov", FLOAT, "90.0"),
        ),
        _sensor("other.imu"),
        _sensor("other.gnss"),
        _sensor("other.collision"),
        _sensor("other.lane_invasion"),
    )
}

TRAFFIC_LIGHT = Blueprint("traffic.traffic_light", "traffic,traffic_light", ())
SPECTATOR = Blueprint("spectator", "spectator", ())


def uid(blueprint: Blueprint) -> int:
    """Its number among the definitions, from 1; 0 for one that can't be spawned."""
    return list(BLUEPRINTS).index(blueprint.id) + 1 if blueprint.id in BLUEPRINTS else 0
