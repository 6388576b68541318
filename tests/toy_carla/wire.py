"""How LibCarla 0.9.16 lays out what the server sends: actors in calls, and payloads of streams.

Sources: sensor/s11n/SensorHeaderSerializer.h, sensor/s11n/EpisodeStateSerializer.h, sensor/data/ActorDynamicState.h
(119 bytes for an actor), sensor/SensorRegistry.h (whose order numbers the sensor types), rpc/Actor.h,
streaming/detail/Token.h.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack

from .actors import Actor, Box, Sensor, TrafficLight, Transform, Vector, Vehicle, Walker

VERSION = "0.9.16"
"""Of LibCarla, whose client understands this."""
COLLISION, GNSS, IMU, CAMERA, WORLD = 0, 4, 5, 13, 17
"""Sensor types: places in `SensorRegistry`."""
WORLD_STREAM = 1
MAP_CHANGED = 1
"""Flag of the simulation state that makes the client ask for the map again."""

_HEADER = struct.Struct("<QQd6f")
_EPISODE = struct.Struct("<Qdf3iI")
_ACTOR = struct.Struct("<IB15f54s")
_VEHICLE = struct.Struct("<3f3?if2BIB")
_WALKER = struct.Struct("<4f?")
_LIGHT = struct.Struct("<32s4fI?B")
_ACTIVE = 1


def token(stream: int, host: str, port: int) -> bytes:
    """Where a stream is to be had."""
    return struct.pack("<IHBB4s12x", stream, port, 1, 1, socket.inet_aton(host))


def header(kind: int, frame: int, seconds: float, transform: Transform) -> bytes:
    """What every payload of a stream begins with."""
    return _HEADER.pack(kind, frame, seconds, *transform.location, *transform.rotation)


def episode(number: int, platform_seconds: float, delta: float, map_changed: bool) -> bytes:
    """What follows the header in the world's stream, before the actors."""
    return _EPISODE.pack(number, platform_seconds, delta, 0, 0, 0, MAP_CHANGED if map_changed else 0)


def actor_state(actor: Actor, speed_limit_kmh: float, light_state: int) -> bytes:
    """One actor in the world's stream; limit and light are what a vehicle is told."""
    return _ACTOR.pack(
        actor.id,
        _ACTIVE,
        *actor.transform.location,
        *actor.transform.rotation,
        *actor.velocity,
        *actor.turning,
        *actor.acceleration,
        _kind_state(actor, speed_limit_kmh, light_state),
    )


def _kind_state(actor: Actor, speed_limit_kmh: float, light_state: int) -> bytes:
    if isinstance(actor, Vehicle):
        return _VEHICLE.pack(*actor.control, speed_limit_kmh, light_state, bool(actor.light), actor.light, 0)
    if isinstance(actor, Walker):
        direction, speed, jump = actor.control[:3]
        return _WALKER.pack(*direction, speed, jump)
    if isinstance(actor, TrafficLight):
        times = (GREEN_S, YELLOW_S, RED_S, actor.elapsed)
        return _LIGHT.pack(str(actor.signal).encode(), *times, actor.pole, actor.frozen, actor.state)
    return b""


GREEN_S, YELLOW_S, RED_S = 6.0, 3.0, 6.0
"""Of the traffic lights, seconds. One after the other of a group is green, and before the next one all are red for the
red time, as in CARLA (TrafficLightGroup.cpp)."""


def box(one: Box) -> list[Any]:
    """A bounding box without a rotation of its own (geom/BoundingBox.h)."""
    return [list(one.center), list(one.extent), [0.0, 0.0, 0.0], 0]


def actor(one: Actor, host: str, port: int) -> list[Any]:
    """An actor as calls return it."""
    tags = b"\x0e" if isinstance(one, Vehicle) else b"\x0c" if isinstance(one, Walker) else b""  # rpc/ObjectLabel.h
    stream = token(one.stream, host, port) if isinstance(one, Sensor) and one.stream else b""
    return [one.id, one.parent, one.description, box(one.box), tags, stream]


def image(width: int, height: int, fov: float, pixels: bytes) -> bytes:
    """A picture: BGRA, row by row (sensor/s11n/ImageSerializer.h)."""
    return struct.pack("<IIf", width, height, fov) + pixels


def imu(accelerometer: Vector, gyroscope: Vector, compass: float) -> bytes:
    """m/s², radians/s, and radians from north, clockwise (sensor/s11n/IMUSerializer.h)."""
    packed: bytes = msgpack.packb([list(accelerometer), list(gyroscope), compass])
    return packed


def gnss(latitude: float, longitude: float, altitude: float) -> bytes:
    """Degrees and metres (sensor/s11n/GnssSerializer.h)."""
    packed: bytes = msgpack.packb([latitude, longitude, altitude])
    return packed


def collision(one: list[Any], other: list[Any], impulse: Vector) -> bytes:
    """Both actors as `actor` makes them, and N·s (sensor/s11n/CollisionEventSerializer.h)."""
    packed: bytes = msgpack.packb([one, other, list(impulse)])
    return packed
