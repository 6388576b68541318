"""Beams and BirdView with actors of the real `carla.Client`, in the toy world."""

from __future__ import annotations

from collections.abc import Iterator

import carla
import numpy as np
import pytest
from toy_carla import ToyCarla

from carla_agent.observers.beams import Beams
from carla_agent.observers.bird_layouts import CARL, ROACH
from carla_agent.observers.bird_view import BirdView
from carla_agent.observers.ego import EgoReader
from carla_agent.observers.route import Plan, Route


@pytest.fixture(scope="module")
def world() -> Iterator[carla.World]:
    """The crossing in synchronous mode at 20 Hz."""
    with ToyCarla(town="crossing") as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(10.0)
        world = client.get_world()
        world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
        yield world


@pytest.fixture
def cars(world: carla.World) -> Iterator[tuple[carla.Vehicle, carla.Vehicle]]:
    """The driven car, and one that stands 15 m ahead of it in its lane."""
    spawned = []
    blueprint = world.get_blueprint_library().find("vehicle.lincoln.mkz_2020")
    lane = world.get_map().get_waypoint(carla.Location(-45.0, 2.5, 0.0))
    for waypoint in (lane, lane.next(15.0)[0]):
        spawned.append(world.spawn_actor(blueprint, waypoint.transform))
    world.tick()
    yield spawned[0], spawned[1]
    for car in spawned:
        car.destroy()
    world.tick()


def along(car: carla.Vehicle, metres: int) -> Route:
    route, waypoint = Route(), car.get_world().get_map().get_waypoint(car.get_location())
    points = []
    for _ in range(metres):
        points.append((waypoint.transform.location.x, waypoint.transform.location.y))
        waypoint = waypoint.next(1.0)[0]
    route.replace(Plan(np.array(points), np.full(metres, 4), np.zeros(metres, dtype=bool)))
    return route


def test_the_beam_ahead_ends_at_the_other_car(world, cars):
    ours, other = cars
    beams = Beams(EgoReader(ours), world.get_map(), world)
    got = beams.observe(world.get_snapshot())["sensors"] * 40.0
    assert got[5] == pytest.approx(15.0 - other.bounding_box.extent.x, abs=0.05)
    # 5 m lanes: a car in the middle of the right one has 2.5 m to its right and 7.5 m to its left.
    assert got[[0, 10]] == pytest.approx([7.5, 2.5], abs=0.5)


@pytest.mark.parametrize("layout", [ROACH, CARL], ids=["Roach", "CaRL"])
def test_a_bird_sees_road_route_marks_the_other_car_and_the_light(world, cars, layout):
    ours, other = cars
    view = BirdView(EgoReader(ours), world.get_map(), world, layout, along(ours, 60))
    world.tick()
    image = view.observe(world.get_snapshot())[layout.field]
    view.spec.validate({layout.field: image[None]})
    shown = {layer.name: mask for layer, mask in zip(layout.layers, image, strict=True)}
    names = ("vehicles, 0 ticks ago", "lights and stops, 0 ticks ago") if layout is ROACH else ("vehicles", "lights")
    for name in ("road", "route", "lane marks", *names):
        assert shown[name].any(), name
    # Their distance is 15 m: the box's middle lies that far up from the car's row, in its column.
    rows, columns = np.nonzero(shown[names[0]])
    row = (layout.size - 1) * (1 - layout.below_car / layout.size)
    middle = (rows.min() + rows.max()) / 2 if layout is ROACH else rows.max() - other.bounding_box.extent.x * 2
    scale = layout.pixels_per_metre * (layout.size - 1) / layout.size
    assert middle == pytest.approx(row - 15.0 * scale, abs=1.5)
    assert columns.mean() == pytest.approx((layout.size - 1) / 2, abs=0.6)
