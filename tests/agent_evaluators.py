"""Evaluators of the leaderboards' dialects: each constructs, sets up, calls and destroys an agent as its own does."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import carla
import numpy as np
import pytest
from given_ego import to_degrees

import carla_agent
from carla_agent.observers.geo import GeoReference
from carla_agent.observers.route import RoadOption, plan_from_lanes

DIALECTS = Path(__file__).parent / "carla_agent" / "dialects"
START = 0
"""The spawn point at which routes begin."""


def load_agent(monkeypatch: pytest.MonkeyPatch, dialect: str) -> ModuleType:
    """The agent's file as an evaluator imports it: by its name, from its folder, beside the dialect's packages."""
    for name in list(sys.modules):
        if name.partition(".")[0] in {"leaderboard", "srunner", "leaderboard_agent"}:
            monkeypatch.delitem(sys.modules, name)
    for folder in (DIALECTS / "shared", DIALECTS / dialect, Path(carla_agent.__file__).parent):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module("leaderboard_agent")


class Evaluation:
    """One route of a dialect's evaluator in a simulator's world.

    Attributes:
        agent: as its evaluator constructed it.
        hero: the driven car.
        controls: what the agent returned, per tick.
        latest: what the sensors sent at the latest tick.
        hides_car: whether the simulator's world is kept from the agent.
    """

    def __init__(self, module: ModuleType, world: carla.World, origin: GeoReference, length_m: float = 400.0) -> None:
        self.module, self.world = module, world
        self.controls: list[carla.VehicleControl] = []
        self.hero: Any = None
        self.agent: Any = None
        self._wanted: list[dict[str, Any]] = []
        self._origin = origin
        self.latest: dict[str, tuple[int, Any]] = {}
        self.hides_car = False
        start = world.get_map().get_spawn_points()[START]
        plan = plan_from_lanes(world.get_map(), start.location, length_m)
        transforms = [carla.Transform(carla.Location(x, y, 0.0)) for x, y in plan.points]
        self.route = [(place, RoadOption(option)) for place, option in zip(transforms, plan.options, strict=True)]
        degrees = [to_degrees(origin, x, y) for x, y in plan.points]
        self.gps_route = [
            ({"lat": lat, "lon": lon, "z": 0.0}, option)
            for (lat, lon), (_, option) in zip(degrees, self.route, strict=True)
        ]

    @property
    def provider(self) -> Any:
        return importlib.import_module("srunner.scenariomanager.carla_data_provider").CarlaDataProvider

    def entry_point(self) -> Any:
        return getattr(self.module, self.module.get_entry_point())

    def load_world(self) -> None:
        """Spawns the car, and makes the world known."""
        blueprint = self.world.get_blueprint_library().find("vehicle.lincoln.mkz_2020")
        blueprint.set_attribute("role_name", "hero")
        self.hero = self.world.spawn_actor(blueprint, self.world.get_map().get_spawn_points()[START])
        if not self.hides_car:
            self.provider.world, self.provider.hero = self.world, self.hero
        self.world.tick()

    def attach_sensors(self) -> None:
        """As every dialect's agent_wrapper does, with sensors that `drive` reads off the car without noise."""
        self._wanted = self.agent.sensors()
        self.agent.sensor_interface.ids = [wanted["id"] for wanted in self._wanted]

    def drive(self, ticks: int, call: Callable[[], carla.VehicleControl]) -> None:
        """Ticks the world, and does what the agent says."""
        timer = importlib.import_module("srunner.scenariomanager.timer").GameTime
        for _ in range(ticks):
            timer.frame = self.world.tick()
            timer.seconds = self.world.get_snapshot().timestamp.elapsed_seconds
            self.latest = {wanted["id"]: (timer.frame, self._measure(wanted)) for wanted in self._wanted}
            for tag, (frame, data) in self.latest.items():
                self.agent.sensor_interface.update_sensor(tag, data, frame)
            control = call()
            self.controls.append(control)
            self.hero.apply_control(control)

    def _measure(self, wanted: dict[str, Any]) -> Any:
        """What that sensor hands to the agent, in the form that the leaderboards' callbacks give it."""
        place = self.hero.get_transform()
        if wanted["type"] == "sensor.speedometer":
            return {"speed": self.hero.get_velocity().dot(place.get_forward_vector())}
        if wanted["type"] == "sensor.other.gnss":
            return np.array([*to_degrees(self._origin, place.location.x, place.location.y), place.location.z])
        if wanted["type"] == "sensor.other.imu":
            return np.array([0.0, 0.0, 9.81, 0.0, 0.0, 0.0, math.radians(place.rotation.yaw + 90.0)])
        return np.full((wanted["height"], wanted["width"], 4), (10, 20, 30, 255), np.uint8)  # BGRA

    def clean(self) -> None:
        if self.hero is not None:
            self.hero.destroy()
        self.provider.world = self.provider.hero = None


def leaderboard_1(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    run.agent = run.entry_point()(config)
    sensors = run.agent.sensors()
    run.load_world()
    run.agent.set_global_plan(run.gps_route, run.route)
    assert run.agent.sensors() == sensors
    run.attach_sensors()
    run.drive(ticks, run.agent)
    yield
    run.agent.destroy()


def carla_garage_1(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    run.agent = run.entry_point()(config, "route_0_11_29")
    run.load_world()
    run.agent.set_global_plan(run.gps_route, run.route)
    run.attach_sensors()
    run.drive(ticks, lambda: run.agent([]))
    yield
    run.agent.destroy({"scores": {}})


def leaderboard_2(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    run.load_world()
    run.agent = run.entry_point()("localhost", 2000, 0)
    assert run.entry_point().get_ros_version() == -1
    run.agent.set_global_plan(run.gps_route, run.route)
    run.agent.setup(config)
    run.attach_sensors()
    run.drive(ticks, run.agent)
    yield
    run.agent.destroy()


def bench2drive(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    yield from leaderboard_2(run, config + "+RouteScenario_0_rep0_Town12_1_15_11_29", ticks)


def carla_garage_2(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    run.load_world()
    run.agent = run.entry_point()(config, "route_0_11_29")
    run.agent.set_global_plan(run.gps_route, run.route)
    run.agent.setup(config, "route_0_11_29", object())
    run.attach_sensors()
    run.drive(ticks, lambda: run.agent([]))
    yield
    run.agent.destroy({"scores": {}})


def carl(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    run.load_world()
    run.agent = run.entry_point()("localhost", 2000, 0)
    run.agent.set_global_plan(run.gps_route, run.route)
    run.agent.setup(config, route_index="route_0")
    run.attach_sensors()
    run.drive(ticks, lambda: run.agent([]))
    yield
    run.agent.destroy(None)


def carl_training(run: Evaluation, config: str, ticks: int) -> Iterator[None]:
    """CaRL's own leaderboard keeps its agent, and sets it up again at each route."""
    run.load_world()
    run.agent = run.entry_point()("localhost", 2000, 0)
    run.agent.setup(config, 5555, object())
    run.attach_sensors()
    run.agent.set_global_plan(run.route)
    run.drive(ticks // 2, run.agent)
    run.agent.destroy(None)
    run.agent.set_global_plan(run.route)
    run.agent.setup(config, 5555, object())
    run.drive(ticks - ticks // 2, run.agent)
    yield
    run.agent.destroy(None)


EVALUATORS = {
    each.__name__: each
    for each in (leaderboard_1, leaderboard_2, bench2drive, carla_garage_1, carla_garage_2, carl, carl_training)
}
