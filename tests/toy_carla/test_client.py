"""The real `carla.Client` in the toy world: time, settings, towns and cars."""

from __future__ import annotations

import math

import carla
import pytest
from highway_env.vehicle.kinematics import Vehicle

from toy_carla import ToyCarla

from .conftest import Spawn

CAR = "vehicle.lincoln.mkz_2020"


def test_a_car_moves_as_highway_envs_bicycle_does(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
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


def test_the_brake_stops_a_car_and_never_drives_it_backwards(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
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


def test_a_tick_is_as_long_as_the_settings_say(world: carla.World, spawn: Spawn) -> None:
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.2))
    car = spawn(CAR)
    began = world.get_snapshot().elapsed_seconds
    for _ in range(10):
        car.apply_control(carla.VehicleControl(throttle=1.0))
        world.tick()
    assert world.get_snapshot().elapsed_seconds - began == pytest.approx(2.0)
    assert car.get_velocity().length() == pytest.approx(10.0, abs=1e-4)


def test_a_car_says_what_it_is_and_what_it_does(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR, role_name="hero")
    control = carla.VehicleControl(throttle=0.5, steer=-0.25, gear=1, manual_gear_shift=True)
    car.apply_control(control)
    world.tick()
    assert car.attributes["role_name"] == "hero"
    assert car.get_control() == control
    assert car.get_speed_limit() == 30.0
    assert (car.bounding_box.extent.x, car.bounding_box.extent.y) == (2.5, 1.0)
    front, _, rear, _ = car.get_physics_control().wheels
    assert (front.max_steer_angle, rear.max_steer_angle) == (30.0, 0.0)


def test_an_actor_is_gone_after_it_was_destroyed(world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    world.tick()
    assert [actor.id for actor in world.get_actors().filter("vehicle.*")] == [car.id]
    assert car.destroy()
    world.tick()
    assert not world.get_actors().filter("vehicle.*")


def test_nothing_is_spawned_where_a_car_stands(spawn: Spawn) -> None:
    spawn(CAR)
    with pytest.raises(RuntimeError, match="Spawn failed because of collision at spawn position"):
        spawn(CAR)


def test_a_batch_answers_with_ids_and_errors(client: carla.Client, world: carla.World, spawn: Spawn) -> None:
    car = spawn(CAR)
    blueprint, points = world.get_blueprint_library().find(CAR), world.get_map().get_spawn_points()
    push = carla.command.ApplyVehicleControl(carla.command.FutureActor, carla.VehicleControl(throttle=1.0))
    commands = [
        carla.command.SpawnActor(blueprint, points[5]).then(push),
        carla.command.SpawnActor(blueprint, points[0]),
        carla.command.DestroyActor(car),
    ]
    spawned, refused, destroyed = client.apply_batch_sync(commands, True)
    assert not spawned.error
    assert refused.error == "Spawn failed because of collision at spawn position"
    assert destroyed.actor_id == car.id
    world.tick()
    cars = world.get_actors().filter("vehicle.*")
    assert [one.id for one in cars] == [spawned.actor_id]
    assert cars[0].get_control().throttle == 1.0


def test_without_synchronous_mode_the_world_goes_on_by_itself(world: carla.World) -> None:
    world.apply_settings(carla.WorldSettings(synchronous_mode=False))
    first = world.wait_for_tick(20.0)
    assert world.wait_for_tick(20.0).frame > first.frame


def test_settings_are_kept_until_a_town_is_loaded(client: carla.Client) -> None:
    world = client.get_world()
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.1))
    assert client.get_world().get_settings().fixed_delta_seconds == pytest.approx(0.1)
    world = client.load_world("crossing")
    assert not world.get_settings().synchronous_mode
    assert world.get_map().name == "Carla/Maps/crossing"


def test_a_town_that_is_not_there_is_refused_as_carla_refuses_it(client: carla.Client) -> None:
    assert client.get_available_maps() == ["/Game/Carla/Maps/ring", "/Game/Carla/Maps/crossing"]
    with pytest.raises(RuntimeError, match="map not found"):
        client.load_world("Town01")


def test_a_server_of_another_version_says_so() -> None:
    with ToyCarla(version="0.9.15") as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(20.0)
        assert client.get_server_version() == "0.9.15"
