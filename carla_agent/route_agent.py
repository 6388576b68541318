"""An agent that drives the routes of a leaderboard with a policy, whatever the leaderboard calls its methods."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla

from carla_mlflow import Card, ContractError, DrivingError, Policy, PolicyClient
from carla_mlflow.client.server_key import API_KEY
from carla_mlflow.flavor.opening import open_engine

from .agent_config import AgentConfig, load_agent_config
from .agent_observers import HeroEgo, ObserverFactory, Simulator
from .driver import Driver
from .observers.geo import GeoReference
from .observers.route import Route, plan_from_world
from .observers.sensor_ego import SensorEgo
from .observers.sensor_feed import SensorFeed

log = logging.getLogger("carla_agent")

GlobalPlan = Sequence[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Time:
    """The time of a tick."""

    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick as a leaderboard tells it to its agent: the `Snapshot` of the observers."""

    frame: int
    timestamp: Time


class RouteAgent:
    """Drives one route after another; not safe to share between threads.

    Attributes:
        config: as it was read.
        driver: asks the policy and counts what happened.
    """

    def __init__(self, path: str | Path, simulator: Simulator) -> None:
        """Reads the configuration, opens the policy, and checks that they fit, all before the first tick.

        Args:
            path: of the YAML file.
            simulator: read on the track MAP only.

        Raises:
            DrivingError: the configuration is wrong.
            ContractError: the policy is not the expected one, or does not fit the observers or the world's rate.
            UnreachableError: no server answers.
            CarlaMlflowError: the policy or the expected card can't be used for another reason; the text says which.
        """
        self.config = load_agent_config(path)
        self._simulator = simulator
        self._feed, self._route = SensorFeed(), Route()
        self._plan: GlobalPlan | None = None
        self._frame = 0
        self._has_begun = self._is_ready = False
        self._policy = _open_policy(self.config)
        try:
            factory = ObserverFactory(self.config, self._policy.card, self._feed, self._route, simulator)
            self.driver = Driver(self._policy, factory.make_all(), self.config.world_hz, self.config.budget_ms)
            self.driver.check()
        except BaseException:
            self.close()
            raise
        self._ego = factory.ego

    def sensors(self) -> list[dict[str, Any]]:
        """The sensors that the leaderboard shall attach to the car."""
        return [sensor.as_leaderboard() for sensor in self.config.sensors]

    def follow(self, sparse: GlobalPlan | None, dense: GlobalPlan, gps: GlobalPlan | None) -> None:
        """Takes the plan of a new route, which begins with the next tick.

        Args:
            sparse: the leaderboard's own selection of points, (`carla.Transform`, RoadOption); None where it has none.
            dense: all points.
            gps: the points of `sparse` in degrees; None where the leaderboard tells none.

        Raises:
            DrivingError: the track SENSORS needs a plan that this leaderboard does not tell.
        """
        self._plan = dense
        if self.config.track == "SENSORS":
            if not sparse or not gps:
                raise DrivingError("this leaderboard tells no plan in degrees, which the track SENSORS needs")
            self._plan = sparse
            if isinstance(self._ego, SensorEgo):
                place, (degrees, _) = sparse[0][0].location, gps[0]
                self._ego.reference = GeoReference.estimate(degrees["lat"], degrees["lon"], place.x, place.y)
        self._has_begun = False

    def step(self, input_data: Mapping[str, tuple[int, Any]], seconds: float) -> carla.VehicleControl:
        """Decides at one tick.

        Args:
            input_data: sensor id → (frame, data).
            seconds: simulated.

        Returns:
            The control; a full brake until every sensor has sent data and the car is there.
        """
        frames = [frame for frame, _ in input_data.values()]
        self._frame = max(frames) if frames else self._frame + 1
        if not self._has_begun:
            self._begin()
        self._feed.update(input_data)
        self._is_ready = self._is_ready or self._has_all()
        if not self._is_ready:
            return carla.VehicleControl(0.0, 0.0, 1.0)
        control = self.driver.step(Tick(self._frame, Time(seconds)))
        if isinstance(self._ego, SensorEgo):
            self._ego.acted(control.throttle, control.steer, control.brake)
        return control

    def _begin(self) -> None:
        """The first tick of a route: only now is the simulator's map there for certain."""
        if self._plan is not None:
            needs_map = self.config.track == "MAP"
            self._route.replace(plan_from_world(self._plan, self._simulator.road_map() if needs_map else None))
        if isinstance(self._ego, HeroEgo):
            self._ego.forget()
        for sensor in self.config.sensors:
            self._feed.forget(sensor.id)
        self.driver.reset()
        self._has_begun, self._is_ready = True, False

    def _has_all(self) -> bool:
        """Whether every sensor has sent data on this route, and the car is there where it is read."""
        has_data = all(self._feed.latest(sensor.id) is not None for sensor in self.config.sensors)
        return has_data and not (isinstance(self._ego, HeroEgo) and self._simulator.hero() is None)

    def close(self) -> None:
        """Says what happened on the route, and closes the connection."""
        if hasattr(self, "driver") and self.driver.record.decisions:
            record = self.driver.record
            by, fallbacks = dict(record.versions), dict(record.fallbacks)
            log.info("the route ends: %d decisions, by version %s, fallbacks %s", record.decisions, by, fallbacks)
        if isinstance(self._policy, PolicyClient):
            self._policy.close()


def _open_policy(config: AgentConfig) -> Policy:
    expected = None if config.card is None else Card.load(config.card)
    if config.server is not None:
        return PolicyClient(config.server, api_key=os.environ.get(API_KEY, ""), expected=expected)
    assert config.model is not None  # load_agent_config has seen to that
    with tempfile.TemporaryDirectory() as scratch:
        engine = open_engine(config.model, Path(scratch))
    if expected is not None and engine.card.contract != expected.contract:
        raise ContractError(
            f"{config.model}: {engine.card.name} {engine.card.version} has another contract than {config.card}; "
            "compare the observation and action sections of the two cards"
        )
    return engine
