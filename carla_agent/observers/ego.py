"""The driven car at one tick, read once and shared by all observers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from carla_mlflow import DrivingError

from .observer import Snapshot

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Ego:
    """The driven car at one tick, in CARLA's axes: x forward (or east), y right (or south), z up, left-handed.

    Source of the axes and units: CARLA's Python API reference, `carla.Transform` and `carla.Actor`.

    Attributes:
        frame: number of the tick.
        seconds: simulated seconds since the world's episode began.
        location: of the actor's origin in the world, metres.
        pitch: nose up is positive, degrees.
        yaw: clockwise seen from above, degrees.
        roll: clockwise seen from behind, degrees.
        velocity: in the world's axes, m/s.
        acceleration: in the world's axes, m/s².
        angular_velocity: in the world's axes, degrees/s.
        throttle: of the control that acted in this tick, in [0, 1].
        steer: likewise, in [-1, 1], positive to the right.
        brake: likewise, in [0, 1].
        gear: likewise; -1 is reverse, 0 neutral.
        speed_limit: of the road, as `carla.Vehicle.get_speed_limit` says it, km/h; 0 where none is known.
    """

    frame: int
    seconds: float
    location: Vector
    pitch: float
    yaw: float
    roll: float
    velocity: Vector
    acceleration: Vector
    angular_velocity: Vector
    throttle: float
    steer: float
    brake: float
    gear: int
    speed_limit: float

    @property
    def speed(self) -> float:
        """Length of the velocity, m/s."""
        return math.hypot(*self.velocity)

    @property
    def forward_speed(self) -> float:
        """Velocity along the car's nose, m/s; negative when it rolls back."""
        return self.to_car(self.velocity)[0]

    def to_car(self, vector: Vector) -> Vector:
        """Turns a vector in the world's axes into the car's: x forward, y right, z up.

        The rotation is the transpose of Unreal's matrix for pitch, yaw and roll (`carla.Transform.get_matrix`).
        """
        x, y, z = vector
        (a, b, c), (d, e, f), (g, h, i) = self.axes()
        return (a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z)

    def axes(self) -> tuple[Vector, Vector, Vector]:
        """The car's forward, right and up vectors in the world's axes, each of length 1."""
        pitch, yaw, roll = math.radians(self.pitch), math.radians(self.yaw), math.radians(self.roll)
        cp, sp, cy, sy, cr, sr = (f(a) for a in (pitch, yaw, roll) for f in (math.cos, math.sin))
        forward = (cp * cy, cp * sy, sp)
        right = (cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr)
        up = (-cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr)
        return forward, right, up


class EgoSource(Protocol):
    """Where the car is read from: a vehicle of the simulator, or an agent's sensors."""

    @property
    def unknown(self) -> Mapping[str, str]:
        """Measurements that this source can't make → why; `Measurements` refuses them before the first tick."""

    def read(self, snapshot: Snapshot) -> Ego:
        """The car at that tick."""


def vehicle_id(ego: EgoSource) -> int | None:
    """The id of the driven car's actor; None where the source has no `vehicle`, as an agent's sensors."""
    found: int | None = getattr(getattr(ego, "vehicle", None), "id", None)
    return found


class EgoReader:
    """Reads a `carla.Vehicle`, once per tick however many observers ask.

    Everything read here lies in the snapshot that the client has received with the tick, so that reading costs
    microseconds and no call to the simulator.
    """

    unknown: Mapping[str, str] = MappingProxyType({})

    def __init__(self, vehicle: Any) -> None:
        """Reads that vehicle, a `carla.Vehicle`."""
        self.vehicle = vehicle
        self._latest: Ego | None = None

    def read(self, snapshot: Snapshot) -> Ego:
        """The car at that tick.

        Raises:
            DrivingError: it is not in the world any more. Its vehicle would go on to give zeros.
        """
        if self._latest is None or self._latest.frame != snapshot.frame:
            find = getattr(snapshot, "find", None)  # a `carla.WorldSnapshot` has it, an agent's tick does not
            if find is not None and find(self.vehicle.id) is None:
                raise DrivingError("the driven car is not in the world any more: it was removed")
            self._latest = _read(self.vehicle, snapshot)
        return self._latest


def _read(vehicle: Any, snapshot: Snapshot) -> Ego:
    transform, control = vehicle.get_transform(), vehicle.get_control()
    place, turned = transform.location, transform.rotation
    return Ego(
        frame=snapshot.frame,
        seconds=snapshot.timestamp.elapsed_seconds,
        location=(place.x, place.y, place.z),
        pitch=turned.pitch,
        yaw=turned.yaw,
        roll=turned.roll,
        velocity=_vector(vehicle.get_velocity()),
        acceleration=_vector(vehicle.get_acceleration()),
        angular_velocity=_vector(vehicle.get_angular_velocity()),
        throttle=control.throttle,
        steer=control.steer,
        brake=control.brake,
        gear=control.gear,
        speed_limit=vehicle.get_speed_limit() or 0.0,
    )


def _vector(vector: Any) -> Vector:
    return (vector.x, vector.y, vector.z)
