"""What an agent's file names is made from the simulator as soon as its map and the car are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import carla
import numpy as np
import pytest
from carla_cars import Actor
from given_ego import at_tick
from open_drive_texts import carla_map, road
from tests_support import EXAMPLE

from carla_agent.agent_config import AgentConfig, BeamsConfig, BirdViewConfig
from carla_agent.agent_observers import ObserverFactory
from carla_agent.observers.observer import Observer
from carla_agent.observers.route import Route
from carla_agent.observers.sensor_feed import SensorFeed
from carla_mlflow import Card, DrivingError

STREET = road(1, (0.0, 0.0, 0.0), [(40.0, 0.0)])


class Town:
    """A simulator with one map, in which the car may stand."""

    def __init__(self, text: str) -> None:
        self.map, self.car = carla_map(text), None
        self.maps_read = 0

    def hero(self) -> Any:
        return self.car

    def world(self) -> Callable[[], list[Any]]:
        return lambda: [] if self.car is None else [self.car]

    def road_map(self) -> carla.Map:
        self.maps_read += 1
        return self.map


def observer_in(town: Town, config: BeamsConfig | BirdViewConfig) -> Observer:
    wanted = AgentConfig(track="MAP", observers=(config,))
    (made,) = ObserverFactory(wanted, Card.load(EXAMPLE), SensorFeed(), Route(), town).make_all()
    return made


BOTH = pytest.mark.parametrize("config", [BeamsConfig(), BirdViewConfig(layout="roach")], ids=["beams", "bird_view"])


@BOTH
def test_a_town_without_a_lane_is_refused_when_the_route_begins(config: BeamsConfig | BirdViewConfig):
    town = Town("")
    observer = observer_in(town, config)
    observer.reset()  # the car is not there yet
    assert town.maps_read == 0
    town.car = Actor(10.0, 1.75)
    with pytest.raises(DrivingError, match="lane"):
        observer.reset()


@BOTH
def test_a_town_is_read_when_the_route_begins_and_not_at_its_ticks(config: BeamsConfig | BirdViewConfig):
    town = Town(STREET)
    observer = observer_in(town, config)
    town.car = CarWithPhysics(10.0, 1.75)
    observer.reset()
    observer.observe(at_tick(1))
    assert town.maps_read == 1


def test_a_car_that_comes_after_the_route_has_begun_is_observed():
    town = Town(STREET)
    observer = observer_in(town, BeamsConfig())
    observer.reset()
    town.car = CarWithPhysics(10.0, 1.75)
    fields = observer.observe(at_tick(1))
    assert fields is not None
    assert np.isfinite(fields["sensors"]).all()


class CarWithPhysics(Actor):
    """One that tells all that an Ego has."""

    def get_acceleration(self) -> carla.Vector3D:
        return carla.Vector3D()

    def get_angular_velocity(self) -> carla.Vector3D:
        return carla.Vector3D()

    def get_control(self) -> carla.VehicleControl:
        return carla.VehicleControl()

    def get_speed_limit(self) -> float:
        return 30.0
