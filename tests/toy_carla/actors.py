"""What stands and moves in the world. Axes and units are CARLA's: metres, degrees, x forward, y right, z up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Vector = tuple[float, float, float]
ZERO: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Transform:
    """A place and a rotation: pitch, yaw and roll in degrees."""

    location: Vector = ZERO
    rotation: Vector = ZERO

    @classmethod
    def of(cls, wire: Any) -> Transform:
        """From `[[x, y, z], [pitch, yaw, roll]]`, as it comes from a client."""
        (x, y, z), (pitch, yaw, roll) = wire
        return cls((x, y, z), (pitch, yaw, roll))

    @property
    def yaw(self) -> float:
        return self.rotation[1]


@dataclass(frozen=True)
class Box:
    """A bounding box in its actor's axes: the centre, and half of its size."""

    center: Vector = ZERO
    extent: Vector = ZERO


NO_TRANSFORM, NO_BOX = Transform(), Box()


@dataclass
class Actor:
    """An actor, also one that only stands there, such as the spectator.

    Attributes:
        description: uid, blueprint and attributes as LibCarla sends them (rpc/ActorDescription.h).
        relative: to the parent, where there is one.
        velocity: in the world's axes, m/s.
        acceleration: likewise, m/s².
        turning: angular velocity around x, y and z, degrees/s.
    """

    id: int
    description: list[Any]
    transform: Transform
    box: Box = NO_BOX
    parent: int = 0
    relative: Transform = NO_TRANSFORM
    velocity: Vector = ZERO
    acceleration: Vector = ZERO
    turning: Vector = ZERO

    @property
    def type_id(self) -> str:
        return str(self.description[1])

    @property
    def attributes(self) -> dict[str, str]:
        return {name: value for name, _, value in self.description[2]}


@dataclass
class Vehicle(Actor):
    """A car.

    Attributes:
        control: throttle, steer, brake, hand brake, reverse, manual gear shift, gear (rpc/VehicleControl.h).
        speed: along the nose, m/s; negative where it drives backwards.
        collisions: how often it has run into something, or something into it.
        off_road_ticks: ticks at which its centre was on no lane.
        light: the traffic light in whose box it stands, or 0.
    """

    control: list[Any] = field(default_factory=lambda: [0.0, 0.0, 0.0, False, False, False, 0])
    speed: float = 0.0
    collisions: int = 0
    off_road_ticks: int = 0
    light: int = 0


@dataclass
class Walker(Actor):
    """A pedestrian, who walks in a direction at a speed.

    Attributes:
        control: direction as a vector, speed in m/s, whether it jumps (rpc/WalkerControl.h).
        collisions: as a vehicle's.
    """

    collisions: int = 0

    control: list[Any] = field(default_factory=lambda: [[1.0, 0.0, 0.0], 0.0, False])


@dataclass
class Sensor(Actor):
    """What measures, and sends its measurements on a stream of its own.

    Attributes:
        stream: its number; 0 for sensors that the client computes itself.
        due: simulated seconds from which it measures again.
    """

    stream: int = 0
    due: float = 0.0


@dataclass
class TrafficLight(Actor):
    """A traffic light. Its bounding box is the trigger volume before its stop line (client/TrafficSign.cpp).

    Attributes:
        signal: its id in the OpenDRIVE file.
        state: 0 red, 1 yellow, 2 green, 3 off (rpc/TrafficLightState.h).
        frozen: whether its state stays.
    """

    signal: int = 0
    state: int = 0
    elapsed: float = 0.0
    frozen: bool = False
    pole: int = 0
