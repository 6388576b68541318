"""A car that is read from its sensors is where it is, up to what they can't tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from given_ego import at_tick, to_degrees

from carla_agent.observers.geo import GeoReference
from carla_agent.observers.measurements import Measurements
from carla_agent.observers.sensor_ego import SensorEgo
from carla_agent.observers.sensor_feed import SensorFeed
from carla_mlflow import DrivingError

ORIGIN = GeoReference(48.0, 11.0)


def reading(yaw_deg: float, speed: float | None = 5.0, compass: float | None = None) -> SensorFeed:
    feed = SensorFeed()
    north_deg = yaw_deg + 90.0  # a compass points north, which is -y; the yaw counts from x
    feed.update(
        {
            "speed": (3, {"speed": speed}),
            "gps": (3, np.array([*to_degrees(ORIGIN, 120.0, -40.0), 1.5])),
            "imu": (
                3,
                np.array([0.1, 0.2, 9.8, 0.0, 0.0, 0.25, math.radians(north_deg) if compass is None else compass]),
            ),
        }
    )
    return feed


def ego_of(feed: SensorFeed) -> SensorEgo:
    ego = SensorEgo(feed, "speed", "gps", "imu")
    ego.reference = ORIGIN
    return ego


def test_place_direction_and_speed_are_the_sensors():
    car = ego_of(reading(30.0)).read(at_tick(3))
    assert car.location == pytest.approx((120.0, -40.0, 1.5), abs=1e-4)
    assert car.yaw == pytest.approx(30.0)
    assert car.forward_speed == pytest.approx(5.0)
    assert car.velocity == pytest.approx((5 * math.cos(math.radians(30)), 2.5, 0))
    assert car.angular_velocity[2] == pytest.approx(math.degrees(0.25))


def test_the_control_is_the_one_that_the_agent_asked_for():
    ego = ego_of(reading(0.0))
    assert ego.read(at_tick(3)).throttle == 0.0
    ego.acted(0.5, -0.25, 0.0)
    car = ego.read(at_tick(4))
    assert (car.throttle, car.steer, car.brake) == (0.5, -0.25, 0.0)


def test_a_compass_that_sends_nan_leaves_the_direction_as_it_was():
    feed = reading(30.0)
    ego = ego_of(feed)
    assert ego.read(at_tick(3)).yaw == pytest.approx(30.0)
    feed.update({"imu": (4, np.array([0, 0, 0, 0, 0, 0, math.nan]))})
    assert ego.read(at_tick(4)).yaw == pytest.approx(30.0)


def test_a_speedometer_without_a_car_reads_zero():
    assert ego_of(reading(0.0, speed=None)).read(at_tick(3)).speed == 0.0


def test_nothing_is_read_before_the_sensors_have_sent():
    with pytest.raises(DrivingError, match="the sensor speed has sent nothing yet"):
        SensorEgo(SensorFeed(), "speed", "gps", "imu").read(at_tick(1))


def test_what_sensors_do_not_tell_is_refused_and_the_rest_is_measured():
    ego = ego_of(reading(0.0))
    with pytest.raises(DrivingError, match="speed_limit can't be known here: no sensor of the track SENSORS tells it"):
        Measurements(ego, "m", ["steer", "speed_limit"])
    told = [
        "speed",
        "speed_xy",
        "forward_speed",
        "velocity_x",
        "level_velocity_x",
        "yaw_rate",
        "throttle",
        "steer",
        "brake",
    ]
    assert Measurements(ego, "m", told).observe(at_tick(3))["m"][:5] == pytest.approx([5.0] * 5)
