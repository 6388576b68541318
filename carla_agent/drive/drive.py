"""One drive in a borrowed world: spawn, tick by tick decide and act, and count what happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla

from carla_mlflow import DrivingError, Policy
from carla_mlflow.interrupt import Interrupt
from carla_mlflow.latency.sources import LatencySource
from carla_mlflow.look import bar

from ..contract_check import ticks_between
from ..driver import Driver
from ..observers.ego import EgoSource
from ..observers.observer import Observer
from .connection import CONNECT_S, failures_in_words
from .delayed import DelayedDriver, check_rate
from .film import BEHIND, Film
from .observing import Scene, observers_for
from .realtime import RealtimeDriver
from .report import DriveReport
from .simulator import borrowed_world
from .spawned import SpawnedActors
from .traffic import four_wheeled, traffic

DEFAULT_CAR = "vehicle.tesla.model3"


@dataclass(frozen=True)
class DriveOptions:
    """What to drive, and how.

    Attributes:
        town: to load; None for the one that is loaded.
        seconds: simulated seconds.
        hz: ticks per simulated second.
        traffic: other cars.
        car: blueprint of the driven car; None for `DEFAULT_CAR`, or any car where the simulator has none such.
        spawn: the first spawn point to try, counted from 0.
        seed: of the traffic.
        budget_ms: of a decision, milliseconds; None for one tick, or for no limit under a latency.
        realtime: whether the world goes on while an answer is under way.
        latency: how long that is in simulated time; None for as long as the clock says, while the world ticks by it.
        trace: where to write the latencies that applied; None for nowhere.
        gif: where to write a film; None for none.
        config: a YAML file that says which observers there are; None for the ones that fit the card.
    """

    town: str | None
    seconds: float
    hz: float
    traffic: int
    car: str | None
    spawn: int
    seed: int
    budget_ms: float | None
    realtime: bool
    latency: LatencySource | None
    trace: Path | None
    gif: Path | None
    config: Path | None


class Drive:
    """A drive, under way or over; `figures` says at any time what happened so far."""

    def __init__(self, client: carla.Client, policy: Policy, options: DriveOptions, interrupt: Interrupt) -> None:
        self._client, self._policy, self._options, self._interrupt = client, policy, options, interrupt
        self._film = Film(options.gif, options.hz) if options.gif else None
        self._report: DriveReport | None = None
        self._driver: Driver | None = None
        self.has_film = False

    def figures(self) -> dict[str, Any] | None:
        """Counts by name, see `DriveReport.figures`; None until `Driver.check` has passed."""
        if self._report is None or self._driver is None:
            return None
        figures = self._report.figures(self._driver.record)
        return {**figures, "latency": self._driver.figures() if isinstance(self._driver, DelayedDriver) else None}

    def run(self) -> None:
        """Drives, leaves the world as it was, and writes the film.

        Raises:
            UnreachableError: the simulator went away.
            DrivingError: the world can't be used, nothing can be spawned, or the film can't be written.
            ContractError: the card does not fit any observers, or the rates do not divide.
        """
        try:
            ticks_between(self._policy.card.action, self._options.hz)  # before the world is touched
            if self._options.latency is not None:
                check_rate(self._options.hz)
            with failures_in_words():
                self._drive()
        finally:
            self.has_film = self._film is not None and self._film.write()
            if self._options.trace is not None and isinstance(self._driver, DelayedDriver):
                self._driver.applied.write(self._options.trace)

    def _drive(self) -> None:
        options = self._options
        with (
            borrowed_world(self._client, options.town, options.hz) as world,
            SpawnedActors(self._client, world, self._interrupt) as actors,
        ):
            carla_map = world.get_map()
            places = _places(carla_map, options.spawn)
            car = actors.spawn_car(_blueprint(world, options.car), places)
            self._report = DriveReport(carla_map)
            with traffic(self._client, world, actors, places, options.traffic, options.seed):
                self._tick(world)  # only then the client knows where its actors are
                self._attach(world, actors, car)
                scene = Scene(world, car, actors, options.hz, options.seconds, waits=not self._is_by_the_clock)
                observers, ego = observers_for(self._policy.card, scene, options.config)
                with self._driving(observers) as driver:
                    driver.check()
                    self._driver = driver
                    driver.reset()
                    self._loop(world, driver, ego, car)

    @property
    def _is_by_the_clock(self) -> bool:
        """Whether the world ticks by the clock; it waits where the latency is in simulated time."""
        return self._options.realtime and self._options.latency is None

    @contextlib.contextmanager
    def _driving(self, observers: Sequence[Observer]) -> Iterator[Driver]:
        options = self._options
        if options.latency is not None:
            source, budget_ms = options.latency, options.budget_ms
            yield DelayedDriver(self._policy, observers, options.hz, source, budget_ms, options.seed)
            return
        arguments = (self._policy, observers, options.hz, options.budget_ms)
        if not options.realtime:
            yield Driver(*arguments)
            return
        driver = RealtimeDriver(*arguments)
        try:
            yield driver
        finally:
            driver.close()

    def _attach(self, world: carla.World, actors: SpawnedActors, car: Any) -> None:
        assert self._report is not None
        library = world.get_blueprint_library()
        for name, heard in (("collision", self._report.collided), ("lane_invasion", self._report.crossed)):
            actors.attach(library.find(f"sensor.other.{name}"), carla.Transform(), car).listen(heard)
        if self._film is not None:
            actors.attach(self._film.blueprint(library), BEHIND, car).listen(self._film.receive)

    def _loop(self, world: carla.World, driver: Driver, ego: EgoSource, car: Any) -> None:
        assert self._report is not None
        ticks, due = round(self._options.seconds * self._options.hz), time.monotonic()
        for _ in bar("driving", ticks, "tick", range(ticks)):
            snapshot = self._tick(world)
            car.apply_control(driver.step(snapshot))
            self._report.add(ego.read(snapshot))
            if self._is_by_the_clock:
                due = max(due + 1.0 / self._options.hz, time.monotonic())  # a stall is not made up for
                time.sleep(max(due - time.monotonic(), 0.0))
            elif self._film is not None:
                self._film.wait_for(snapshot.frame)

    def _tick(self, world: carla.World) -> carla.WorldSnapshot:
        self._interrupt.check()
        world.tick(CONNECT_S)
        return world.get_snapshot()


def _places(carla_map: carla.Map, first: int) -> list[carla.Transform]:
    places = carla_map.get_spawn_points()
    if not places:
        raise DrivingError(f"the map {carla_map.name} has no spawn points")
    if first >= len(places):
        raise DrivingError(f"--spawn {first}: the map {carla_map.name} has spawn points 0 to {len(places) - 1}")
    return [*places[first:], *places[:first]]


def _blueprint(world: carla.World, wanted: str | None) -> carla.ActorBlueprint:
    found = four_wheeled(world)
    chosen = [blueprint for blueprint in found if blueprint.id == (wanted or DEFAULT_CAR)]
    if not chosen and wanted is None:
        chosen = found
    if not chosen:
        names = ", ".join(blueprint.id for blueprint in found[:5])
        raise DrivingError(f"the simulator has no car {wanted}; it has {len(found)}, such as {names}")
    chosen[0].set_attribute("role_name", "hero")
    return chosen[0]
