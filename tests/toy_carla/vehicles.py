"""The bicycle model of highway-env (`highway_env/vehicle/kinematics.py`), in which the example policy was trained."""

from __future__ import annotations

import math

from .actors import Transform, Vehicle

WHEELBASE_M = 5.0
"""highway-env takes the car's length; its centre of gravity lies in the middle."""
MAX_WHEEL_ANGLE = math.pi / 6
MAX_ACCELERATION = 5.0
MAX_STEP_S = 0.05
"""Longer ticks are cut: the model is integrated at 20 Hz or faster."""


def drive(car: Vehicle, seconds: float) -> Transform:
    """Integrates one tick; sets the car's speed and returns where it would be.

    It stands on the ground, from wherever above it was spawned. There is no drag: without throttle and brake it rolls
    on. The brake stops it, and never drives it backwards.
    """
    throttle, _, brake, hand_brake, reverse, _, _ = car.control
    beta = slip(car)
    push = MAX_ACCELERATION * max(0.0, min(throttle, 1.0)) * (-1.0 if reverse else 1.0)
    slow = MAX_ACCELERATION * (1.0 if hand_brake else max(0.0, min(brake, 1.0)))
    (x, y, _), heading, speed = car.transform.location, math.radians(car.transform.yaw), car.speed
    parts = max(math.ceil(seconds / MAX_STEP_S - 1e-9), 1)
    for _ in range(parts):
        step = seconds / parts
        x += speed * math.cos(heading + beta) * step
        y += speed * math.sin(heading + beta) * step
        heading += speed * math.sin(beta) / (WHEELBASE_M / 2) * step
        speed += push * step
        speed = math.copysign(max(abs(speed) - slow * step, 0.0), speed)
    car.speed = speed
    pitch, _, roll = car.transform.rotation
    return Transform((x, y, 0.0), (pitch, (math.degrees(heading) + 180.0) % 360.0 - 180.0, roll))


def slip(car: Vehicle) -> float:
    """The angle between the nose and the velocity, radians."""
    return math.atan(0.5 * math.tan(max(-1.0, min(car.control[1], 1.0)) * MAX_WHEEL_ANGLE))
