"""Plain objects with what observers read of actors: carla's own Transform, BoundingBox and Vector3D in them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import carla
from given_ego import standing_car

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
class Light:
    """A traffic light, or a stop sign, with its trigger volume right at its place."""

    x: float
    y: float
    yaw: float = 0.0
    state: carla.TrafficLightState = carla.TrafficLightState.Red
    type_id: str = "traffic.traffic_light"
    id: int = 90
    elapsed: float = 0.0
    trigger_volume: carla.BoundingBox = field(
        default_factory=lambda: carla.BoundingBox(carla.Location(), carla.Vector3D(1.5, 1.0, 1.0))
    )

    def get_transform(self) -> carla.Transform:
        return carla.Transform(carla.Location(self.x, self.y, 0.0), carla.Rotation(yaw=self.yaw))

    def get_yellow_time(self) -> float:
        return 3.0

    def get_elapsed_time(self) -> float:
        return self.elapsed


def car_at(x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> Ego:
    """A standing car."""
    return replace(standing_car(), location=(x, y, z), yaw=yaw)
