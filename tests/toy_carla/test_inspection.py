"""What a test can see of the toy world, and do to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import carla
import pytest
from patience import PATIENCE_S

from toy_carla import ToyCarla

from .conftest import Spawn

CAR = "vehicle.lincoln.mkz_2020"


def test_a_report_shows_every_actor_and_the_mode(toy: ToyCarla, world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR, 3, role_name="hero")
    sensor = spawn("sensor.other.imu", carla.Transform(carla.Location(z=2.0)), car)
    before = toy.report()
    for _ in range(5):
        world.tick()
    after = toy.report()
    assert after.ticks - before.ticks == after.frame - before.frame == 5
    assert (after.town, after.synchronous, after.fixed_delta_seconds) == ("ring", True, 0.05)
    (seen,) = after.of_type("vehicle.")
    assert (seen.id, seen.role_name, seen.type_id) == (car.id, "hero", CAR)
    assert seen.location == pytest.approx((car.get_location().x, car.get_location().y, 0.0))
    assert [one.parent for one in after.of_type("sensor.") if one.id == sensor.id] == [car.id]


def test_a_car_beside_the_road_is_off_road(toy: ToyCarla, world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    world.tick()
    assert not toy.is_off_road(car.id)
    car.set_transform(carla.Transform(carla.Location(50.0, -0.2, 0.0)))  # its centre just beyond the lane's edge
    for _ in range(3):
        world.tick()
    assert toy.is_off_road(car.id)
    assert [one.off_road_ticks for one in toy.report().of_type("vehicle.")] == [3]


def test_a_silent_server_runs_the_client_into_its_timeout_and_comes_back() -> None:
    with ToyCarla() as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(20.0)
        world = client.get_world()
        world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
        client.set_timeout(0.3)
        toy.fall_silent()
        with pytest.raises(RuntimeError, match="time-out of 300ms while waiting for the simulator"):
            world.tick()
        frame = toy.report().frame
        toy.fall_silent(False)
        client.set_timeout(20.0)
        assert world.tick() == frame + 1


def test_a_killed_server_is_started_once_more_on_its_port_in_a_new_world() -> None:
    with ToyCarla() as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(20.0)
        world = client.get_world()
        port = toy.port
        toy.kill()
        client.set_timeout(0.3)
        with pytest.raises(RuntimeError, match=f"connected to 127.0.0.1:{port}"):
            world.get_settings()
        toy.start()
        assert toy.port == port
        again = carla.Client(toy.host, toy.port)
        again.set_timeout(20.0)
        assert again.get_world().get_map().name == "Carla/Maps/ring"


def test_a_port_that_is_taken_is_one_line(toy: ToyCarla) -> None:
    command = [sys.executable, "-m", "toy_carla", "--port", str(toy.port), "--with-parent"]
    ended = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("toy_carla: ")
    assert str(toy.port) in line
