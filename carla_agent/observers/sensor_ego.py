"""The car as its own sensors tell it: speedometer, GNSS and IMU, which is all that the track SENSORS allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from carla_mlflow import DrivingError

from .ego import Ego
from .geo import GeoReference
from .observer import Snapshot
from .sensor_feed import SensorFeed

_NO_SENSOR = "no sensor of the track SENSORS tells it"
_GRAVITY = "the IMU's acceleration holds gravity, and no sensor tells pitch and roll"


class SensorEgo:
    """Reads an agent's sensors. What it can't know is 0, and in `unknown`.

    - The position is the GNSS sensor's, converted as CARLA up to 0.9.15 does; with 0.9.16 it is wrong (see geo.py). In
      the leaderboards it carries noise of about half a metre, and nothing is filtered here.
    - The yaw is the compass - 90° (carla_garage, `preprocess_compass`); a NaN, which CARLA sends now and then, leaves
      the yaw as it was. Pitch and roll are taken as 0.
    - The velocity is the speedometer's, along the nose; a slip to the side is not seen.
    - Throttle, steer and brake are those that the agent asked for last.
    """

    unknown: Mapping[str, str] = MappingProxyType(
        {
            "velocity_y": _NO_SENSOR,
            "level_velocity_y": _NO_SENSOR,
            "gear": _NO_SENSOR,
            "gear/5": _NO_SENSOR,
            "speed_limit": _NO_SENSOR,
            "acceleration_x": _GRAVITY,
            "acceleration_y": _GRAVITY,
        }
    )

    def __init__(self, feed: SensorFeed, speedometer: str, gnss: str, imu: str) -> None:
        """Names the three sensors by their ids in the feed."""
        self._feed, self._ids = feed, (speedometer, gnss, imu)
        self.reference = GeoReference()
        self._control = (0.0, 0.0, 0.0)
        self._yaw = 0.0

    def acted(self, throttle: float, steer: float, brake: float) -> None:
        """Takes the control that the agent returned, which acts in the next tick."""
        self._control = (throttle, steer, brake)

    def read(self, snapshot: Snapshot) -> Ego:
        """The car at the latest readings.

        Raises:
            DrivingError: one of the sensors has sent nothing yet.
        """
        speed, (latitude, longitude, altitude), imu = (self._data(sensor) for sensor in self._ids)
        forward = float(speed["speed"] or 0.0)  # the leaderboards' speedometer sends None while the car is not there
        x, y = self.reference.to_world(latitude, longitude)
        *_, yaw_rate, compass = (float(number) for number in imu)
        if not math.isnan(compass):
            self._yaw = math.degrees(compass) - 90.0
        cos, sin = math.cos(math.radians(self._yaw)), math.sin(math.radians(self._yaw))
        throttle, steer, brake = self._control
        return Ego(
            frame=snapshot.frame,
            seconds=snapshot.timestamp.elapsed_seconds,
            location=(x, y, float(altitude)),
            pitch=0.0,
            yaw=self._yaw,
            roll=0.0,
            velocity=(forward * cos, forward * sin, 0.0),
            acceleration=(0.0, 0.0, 0.0),
            angular_velocity=(0.0, 0.0, math.degrees(yaw_rate)),  # an IMU measures radians/s
            throttle=throttle,
            steer=steer,
            brake=brake,
            gear=0,
            speed_limit=0.0,
        )

    def _data(self, sensor: str) -> Any:
        reading = self._feed.latest(sensor)
        if reading is None:
            raise DrivingError(f"the sensor {sensor} has sent nothing yet")
        return reading.data
