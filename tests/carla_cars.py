"""Plain objects with what observers read of actors: carla's own Transform, BoundingBox and Vector3D in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import carla

from carla_agent.observers.ego import Ego

CAR_BOX = carla.BoundingBox(carla.Location(0.0, 0.0, 0.75), carla.Vector3D(2.5, 1.0, 0.75))


@dataclass
class Actor:
    """An actor that stands somewhere."""

    x: float
    y: float
    yaw: float = 0.0
    z: float = 0.0
    type_id: str = "vehicle.test.car"
    id: int = 7
    speed: float = 0.0
    bounding_box: carla.BoundingBox = field(default_factory=lambda: CAR_BOX)

    def get_transform(self) -> carla.Transform:
        return carla.Transform(carla.Location(self.x, self.y, self.z), carla.Rotation(yaw=self.yaw))

    def get_velocity(self) -> carla.Vector3D:
        yaw = math.radians(self.yaw)
        return carla.Vector3D(self.speed * math.cos(yaw), self.speed * math.sin(yaw), 0.0)


@dataclass
class Timestamp:
    elapsed_seconds: float


@dataclass
class Snapshot:
    frame: int = 0

    @property
    def timestamp(self) -> Timestamp:
        return Timestamp(self.frame / 20)


@dataclass
class EgoAt:
    """A driven car that is put somewhere."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    z: float = 0.0

    def read(self, snapshot: Snapshot) -> Ego:
        zero = (0.0, 0.0, 0.0)
        place, seconds = (self.x, self.y, self.z), snapshot.timestamp.elapsed_seconds
        turned = {"pitch": 0.0, "yaw": self.yaw, "roll": 0.0}
        motion = {"velocity": zero, "acceleration": zero, "angular_velocity": zero}
        control = {"throttle": 0.0, "steer": 0.0, "brake": 0.0, "gear": 1, "speed_limit": 0.0}
        return Ego(frame=snapshot.frame, seconds=seconds, location=place, **turned, **motion, **control)
