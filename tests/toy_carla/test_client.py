"""The real `carla.Client` in the toy world."""

from __future__ import annotations

import math
from collections.abc import Iterator

import carla
import pytest
from highway_env.vehicle.kinematics import Vehicle

from toy_carla import ToyCarla


@pytest.fixture(scope="module")
def toy() -> Iterator[ToyCarla]:
    with ToyCarla() as toy:
        yield toy


@pytest.fixture
def world(toy: ToyCarla) -> Iterator[carla.World]:
    """The ring in synchronous mode at 20 Hz, left as it was found."""
    client = carla.Client(toy.host, toy.port)
    client.set_timeout(10.0)
    world = client.load_world("ring")
    before = world.get_settings()
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
    yield world
    world.apply_settings(before)


def spawn(world: carla.World, point: int = 0) -> carla.Vehicle:
    blueprint = world.get_blueprint_library().find("vehicle.lincoln.mkz_2020")
    return world.spawn_actor(blueprint, world.get_map().get_spawn_points()[point])


def test_a_car_moves_as_highway_envs_bicycle_does(world: carla.World) -> None:
    car = spawn(world)
    start = world.get_map().get_spawn_points()[0]
    model = Vehicle(None, [start.location.x, start.location.y], math.radians(start.rotation.yaw), 0.0)
    for tick in range(100):
        throttle, steer = (0.4, 0.0) if tick < 40 else (0.1, 0.3)
        car.apply_control(carla.VehicleControl(throttle=throttle, steer=steer))
        model.act({"acceleration": 5.0 * throttle, "steering": steer * math.pi / 6})
        model.step(0.05)
        world.tick()
    place = car.get_transform()
    assert (place.location.x, place.location.y) == pytest.approx(tuple(model.position), abs=1e-3)
    assert math.radians(place.rotation.yaw) == pytest.approx(model.heading, abs=1e-4)
    assert car.get_velocity().length() == pytest.approx(model.speed, abs=1e-4)


def test_the_brake_stops_a_car_and_never_drives_it_backwards(world: carla.World) -> None:
    car = spawn(world)
    car.apply_control(carla.VehicleControl(throttle=1.0))
    for _ in range(20):
        world.tick()
    car.apply_control(carla.VehicleControl(brake=1.0))
    for _ in range(30):
        world.tick()
    stopped = car.get_location()
    assert car.get_velocity().length() == 0.0
    world.tick()
    assert car.get_location() == stopped


def test_a_tick_of_any_length_covers_the_same_way(world: carla.World) -> None:
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.2))
    car = spawn(world)
    began = world.get_snapshot().elapsed_seconds
    for _ in range(10):
        car.apply_control(carla.VehicleControl(throttle=1.0))
        world.tick()
    assert world.get_snapshot().elapsed_seconds - began == pytest.approx(2.0)
    assert car.get_velocity().length() == pytest.approx(10.0, abs=1e-4)


def test_an_actor_is_gone_after_it_was_destroyed(world: carla.World) -> None:
    car = spawn(world)
    world.tick()
    assert [actor.id for actor in world.get_actors().filter("vehicle.*")] == [car.id]
    assert car.destroy()
    world.tick()
    assert not world.get_actors().filter("vehicle.*")


def test_nothing_is_spawned_where_a_car_stands(world: carla.World) -> None:
    spawn(world)
    with pytest.raises(RuntimeError, match="Spawn failed because of collision at spawn position"):
        spawn(world)


def test_without_synchronous_mode_the_world_goes_on_by_itself(world: carla.World) -> None:
    world.apply_settings(carla.WorldSettings(synchronous_mode=False))
    first = world.wait_for_tick(10.0)
    assert world.wait_for_tick(10.0).frame > first.frame


def test_settings_are_kept_until_a_town_is_loaded(toy: ToyCarla) -> None:
    client = carla.Client(toy.host, toy.port)
    client.set_timeout(10.0)
    world = client.get_world()
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.1))
    assert client.get_world().get_settings().fixed_delta_seconds == pytest.approx(0.1)
    world = client.load_world("crossing")
    assert not world.get_settings().synchronous_mode
    assert world.get_map().name == "Carla/Maps/crossing"


def test_a_town_that_is_not_there_is_refused_as_carla_refuses_it(toy: ToyCarla) -> None:
    client = carla.Client(toy.host, toy.port)
    client.set_timeout(10.0)
    assert client.get_available_maps() == ["/Game/Carla/Maps/ring", "/Game/Carla/Maps/crossing"]
    with pytest.raises(RuntimeError, match="map not found"):
        client.load_world("Town01")


def test_a_server_of_another_version_says_so() -> None:
    with ToyCarla(version="0.9.15") as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(10.0)
        assert client.get_server_version() == "0.9.15"
