"""Sensors as the real client gets them."""

from __future__ import annotations

import math
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import carla
import numpy as np
import pytest
from patience import PATIENCE_S

from .conftest import Spawn

CAR = "vehicle.lincoln.mkz_2020"
ASPHALT, GRASS, SKY = (74, 70, 70), (70, 125, 86), (215, 185, 150)
"""Blue, green, red."""


@contextmanager
def listening(sensor: carla.Sensor) -> Iterator[queue.Queue[Any]]:
    """What the sensor sends, until it is stopped and destroyed."""
    measured: queue.Queue[Any] = queue.Queue()
    sensor.listen(measured.put)
    yield measured
    sensor.stop()
    sensor.destroy()


def pixels(image: carla.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)


def test_a_camera_shows_the_road_the_grass_the_sky_and_the_car(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR, color="10,20,200")
    behind = carla.Transform(carla.Location(x=-8.0, z=4.0), carla.Rotation(pitch=-15.0))
    with listening(spawn("sensor.camera.rgb", behind, car, image_size_x=320, image_size_y=180, fov=100)) as images:
        frame = world.tick()
        image = images.get(timeout=PATIENCE_S)
    assert (image.frame, image.width, image.height, image.fov) == (frame, 320, 180, 100.0)
    picture = pixels(image)
    assert (picture[..., 3] == 255).all()
    for color in (ASPHALT, GRASS, SKY):
        assert (picture[..., :3] == color).all(axis=-1).mean() > 0.05
    assert (picture[90, 160, :3] == (200, 20, 10)).all()  # the car's roof, from above and behind


def test_a_camera_that_looks_down_measures_the_lane(world: carla.World, spawn: Spawn) -> None:
    above = carla.Transform(carla.Location(x=50.0, y=5.0, z=20.0), carla.Rotation(pitch=-90.0))
    with listening(spawn("sensor.camera.rgb", above, image_size_x=400, image_size_y=400, fov=90)) as images:
        world.tick()
        column = pixels(images.get(timeout=PATIENCE_S))[200, :, :3]  # 400 pixels are 40 m, along y
    grass = (column == GRASS).all(axis=-1)
    assert (~grass).sum() / 10 == pytest.approx(10.0, abs=0.3)


def test_an_imu_feels_gravity_acceleration_and_the_turn(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    with listening(spawn("sensor.other.imu", carla.Transform(), car)) as measured:
        car.apply_control(carla.VehicleControl(throttle=0.4))
        for _ in range(20):
            world.tick()
        straight = [measured.get(timeout=PATIENCE_S) for _ in range(20)][-1]
        car.apply_control(carla.VehicleControl(steer=0.6))
        for _ in range(2):
            world.tick()
        turning = [measured.get(timeout=PATIENCE_S) for _ in range(2)][-1]
    assert (straight.accelerometer.x, straight.accelerometer.z) == pytest.approx((2.0, 9.81), abs=1e-3)
    assert straight.compass == pytest.approx(math.pi / 2)  # it drives east
    assert turning.gyroscope.z == pytest.approx(math.radians(car.get_angular_velocity().z), abs=1e-4)
    assert turning.gyroscope.z > 0.1  # to the right is clockwise


def test_a_gnss_sensor_agrees_with_the_map(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR, 20)
    with listening(spawn("sensor.other.gnss", carla.Transform(), car)) as measured:
        world.tick()
        fix = measured.get(timeout=PATIENCE_S)
    expected = world.get_map().transform_to_geolocation(car.get_location())
    assert (fix.latitude, fix.longitude) == pytest.approx((expected.latitude, expected.longitude), abs=1e-9)


def test_a_sensor_measures_as_often_as_it_is_told(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    with listening(spawn("sensor.other.imu", carla.Transform(), car, sensor_tick=0.1)) as measured:
        frames = [world.tick() for _ in range(6)]
        seen = [measured.get(timeout=PATIENCE_S).frame for _ in range(3)]
    assert seen == frames[::2]


def test_a_collision_names_the_other_car(world: carla.World, spawn: Spawn) -> None:
    car, other = spawn(CAR), spawn("vehicle.audi.tt", 1)
    with listening(spawn("sensor.other.collision", carla.Transform(), car)) as events:
        car.apply_control(carla.VehicleControl(throttle=1.0))
        for _ in range(60):
            world.tick()
        event = events.get(timeout=PATIENCE_S)
    assert event.other_actor.id == other.id
    assert event.normal_impulse.x > 1000.0
    assert car.get_location().x < other.get_location().x - 4.0


def test_a_lane_invasion_names_the_mark(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    with listening(spawn("sensor.other.lane_invasion", carla.Transform(), car)) as events:
        car.apply_control(carla.VehicleControl(throttle=0.5, steer=-0.3))
        for _ in range(60):
            world.tick()
        event = events.get(timeout=PATIENCE_S)
    assert [mark.type for mark in event.crossed_lane_markings] == [carla.LaneMarkingType.Solid]
