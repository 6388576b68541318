"""What the sensors measure at a tick, as the payloads of their streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from . import wire
from .actors import Actor, Sensor
from .camera import axes, render
from .ground import Ground, paint
from .towns import ORIGIN, Town
from .world import World

GRAVITY = 9.81
EARTH_RADIUS_M = 6378137.0
TRANSVERSE_SCALE = 0.9996


class Sensors:
    """Makes the sensors' payloads."""

    def __init__(self, world: World, describe: Callable[[Actor], list[object]]) -> None:
        """`describe` lays out an actor as calls return it."""
        self.world, self._describe = world, describe
        self._grounds: dict[str, Ground] = {}

    def measure(self, sensor: Sensor) -> Iterator[bytes]:
        """The sensor's payloads of this tick: one, or none before its next turn, or one for each collision."""
        world, kind = self.world, sensor.type_id
        if kind == "sensor.other.collision":
            for ours, other, impulse in world.collisions:
                if sensor.parent in {ours.id, other.id}:
                    one, two = (ours, other) if ours.id == sensor.parent else (other, ours)
                    body = wire.collision(self._describe(one), self._describe(two), impulse)
                    yield self._head(wire.COLLISION, sensor) + body
            return
        if world.seconds + 1e-6 < sensor.due:
            return
        sensor.due = world.seconds + float(sensor.attributes.get("sensor_tick", "0.0"))
        if kind == "sensor.camera.rgb":
            yield self._head(wire.CAMERA, sensor) + self._picture(sensor)
        elif kind == "sensor.other.imu":
            yield self._head(wire.IMU, sensor) + self._imu(sensor)
        elif kind == "sensor.other.gnss":
            yield self._head(wire.GNSS, sensor) + wire.gnss(*to_gps(*sensor.transform.location))

    def _head(self, kind: int, sensor: Sensor) -> bytes:
        return wire.header(kind, self.world.frame, self.world.seconds, sensor.transform)

    def _picture(self, sensor: Sensor) -> bytes:
        width, height = (int(sensor.attributes[f"image_size_{axis}"]) for axis in "xy")
        fov = float(sensor.attributes["fov"])
        pixels = render(self._ground(self.world.town), self.world.actors.values(), sensor.transform, width, height, fov)
        return wire.image(width, height, fov, pixels)

    def _ground(self, town: Town) -> Ground:
        if town.name not in self._grounds:
            self._grounds[town.name] = paint(town)
        return self._grounds[town.name]

    def _imu(self, sensor: Sensor) -> bytes:
        """As CARLA's: at rest it shows the ground's push upwards, and its compass turns from north, which is -y."""
        parent = self.world.actors.get(sensor.parent, sensor)
        ax, ay, az = parent.acceleration
        forward, right, up = (float(row @ (ax, ay, az + GRAVITY)) for row in axes(sensor.transform))
        gyroscope = (0.0, 0.0, math.radians(parent.turning[2]))
        compass = (math.radians(sensor.transform.yaw) + math.pi / 2) % math.tau
        return wire.imu((forward, right, up), gyroscope, compass)


def to_gps(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Latitude and longitude in degrees and altitude in metres, as 0.9.16 makes them.

    The projection is LibCarla's (geom/GeoLocation.cpp, InverseTransversemercProjection). Latitude grows with y, which
    points south in CARLA: 0.9.15 and before have the opposite sign (carla-simulator/carla, issue 9389).
    """
    latitude, longitude = ORIGIN
    scale = EARTH_RADIUS_M * TRANSVERSE_SCALE
    east, north = x / scale, y / scale + math.radians(latitude)
    turned = math.atan2(math.sinh(east), math.cos(north))
    return math.degrees(math.asin(math.sin(north) / math.cosh(east))), longitude + math.degrees(turned), z
