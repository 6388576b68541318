"""What moves by itself: cars in autopilot, walkers on a path, traffic lights."""

from __future__ import annotations

import math

import carla
import pytest

from benchmarks.support.free_port import free_port
from toy_carla import ToyCarla

from .conftest import Spawn

CAR = "vehicle.tesla.model3"


def ticks(world: carla.World, seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        world.tick()


@pytest.mark.parametrize("town", ["ring", "crossing"])
def test_cars_that_follow_their_lanes_keep_to_them_and_to_their_distance(
    toy: ToyCarla, world: carla.World, spawn: Spawn, town: str
) -> None:
    cars = [spawn(CAR, point) for point in range(0, len(world.get_map().get_spawn_points()), 5)]
    for car in cars:
        toy.follow_lane(car.id, 6.0)
    ticks(world, 60.0)
    seen = toy.report().of_type("vehicle.")
    assert sum(car.speed > 3.0 for car in seen) >= len(cars) / 4  # at the crossing many wait
    assert [(car.off_road_ticks, car.collisions) for car in seen] == [(0, 0)] * len(cars)


def test_a_car_in_autopilot_follows_its_lane_until_it_is_taken_out(
    toy: ToyCarla, client: carla.Client, world: carla.World, spawn: Spawn
) -> None:
    traffic = client.get_trafficmanager(toy.port)
    traffic.set_synchronous_mode(True)
    car = spawn(CAR)
    car.set_autopilot(True, toy.port)
    traffic.set_desired_speed(car, 18.0)
    ticks(world, 30.0)
    assert car.get_velocity().length() == pytest.approx(5.0, abs=0.1)
    car.set_autopilot(False, toy.port)
    car.apply_control(carla.VehicleControl(brake=1.0))
    ticks(world, 3.0)
    assert car.get_velocity().length() == 0.0
    assert toy.report().of_type("vehicle.")[0].off_road_ticks == 0
    traffic.shut_down()


def test_the_clients_own_traffic_manager_drives_where_it_is_asked_to() -> None:
    with ToyCarla(client_traffic=True) as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(20.0)
        world, port = client.get_world(), free_port()
        traffic = client.get_trafficmanager(port)
        car = world.spawn_actor(world.get_blueprint_library().find(CAR), world.get_map().get_spawn_points()[0])
        began = world.wait_for_tick().elapsed_seconds
        car.set_autopilot(True, port)
        while car.get_velocity().length() < 2.0:
            assert world.wait_for_tick().elapsed_seconds - began < 60.0
        traffic.shut_down()


def test_a_car_that_follows_its_lane_stops_behind_a_standing_one(
    toy: ToyCarla, world: carla.World, spawn: Spawn
) -> None:
    car, standing = spawn(CAR), spawn(CAR, 3)
    toy.follow_lane(car.id, 8.0)
    ticks(world, 20.0)
    gap = standing.get_location().x - car.get_location().x - 5.0
    assert 0.5 < gap < 6.0
    assert car.get_velocity().length() < 0.2


def test_a_walker_crosses_the_road_when_it_was_told_to(toy: ToyCarla, world: carla.World, spawn: Spawn) -> None:
    walker = spawn("walker.pedestrian.0001", carla.Transform(carla.Location(50.0, -2.0, 1.0)))
    toy.walk(walker.id, [(50.0, 12.0)], speed=2.0, wait_s=1.0)
    ticks(world, 1.0)
    assert walker.get_location().y == pytest.approx(-2.0)
    ticks(world, 3.0)
    assert walker.get_location().y == pytest.approx(4.0, abs=0.11)
    assert walker.get_velocity().y == pytest.approx(2.0)
    ticks(world, 5.0)
    assert walker.get_location().y == pytest.approx(12.0)


def test_a_walker_obeys_its_control(world: carla.World, spawn: Spawn) -> None:
    walker = spawn("walker.pedestrian.0001", carla.Transform(carla.Location(50.0, -2.0, 1.0)))
    walker.apply_control(carla.WalkerControl(carla.Vector3D(0.0, -1.0, 0.0), 1.5))
    ticks(world, 2.0)
    assert walker.get_location().y == pytest.approx(-5.0)
    assert walker.get_control().speed == pytest.approx(1.5)


@pytest.mark.parametrize("town", ["crossing"])
def test_a_light_stops_the_car_that_comes_to_it(toy: ToyCarla, world: carla.World, spawn: Spawn, town: str) -> None:
    light = world.get_traffic_light_from_opendrive_id("10")
    light.set_state(carla.TrafficLightState.Red)
    light.freeze(True)
    car = spawn(CAR, carla.Transform(carla.Location(55.0, -2.5, 0.0), carla.Rotation(yaw=180.0)))
    world.tick()
    assert car.get_traffic_light_state() == carla.TrafficLightState.Green  # none concerns it yet
    toy.follow_lane(car.id, 6.0)
    ticks(world, 20.0)
    assert car.is_at_traffic_light()
    assert car.get_traffic_light().id == light.id
    assert car.get_traffic_light_state() == carla.TrafficLightState.Red
    assert car.get_location().x > 20.0
    light.set_state(carla.TrafficLightState.Green)
    ticks(world, 10.0)
    assert math.hypot(car.get_location().x - 24.0, car.get_location().y + 2.5) > 20.0


@pytest.mark.parametrize("town", ["crossing"])
def test_lights_are_green_one_after_the_other(world: carla.World, town: str) -> None:
    lights = [world.get_traffic_light_from_opendrive_id(str(number)) for number in (10, 11, 12, 13)]
    turns: list[int] = []
    for _ in range(62):
        ticks(world, 1.0)
        states = [light.state for light in lights]
        assert sum(state != carla.TrafficLightState.Red for state in states) <= 1
        for number, state in enumerate(states):
            if state == carla.TrafficLightState.Green and turns[-1:] != [number]:
                turns.append(number)
    assert turns == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("town", ["crossing"])
def test_a_light_knows_its_lane_and_its_stop_line(world: carla.World, town: str) -> None:
    light = world.get_traffic_light_from_opendrive_id("11")  # for what comes from the north
    (lane,) = light.get_affected_lane_waypoints()
    assert (lane.transform.location.x, lane.transform.location.y) == pytest.approx((-2.5, -21.0), abs=0.1)
    center = light.get_transform().transform(light.trigger_volume.location)
    assert (center.x, center.y) == pytest.approx((-2.5, -24.0), abs=0.1)
