"""One drive in a borrowed world: spawn, tick by tick decide and act, and count what happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla
from tqdm import tqdm

from carla_mlflow import DrivingError, Policy

from ..contract_check import ticks_per_action
from ..driver import Driver
from ..observers.ego import EgoReader
from .film import BEHIND, Film
from .observing import Scene, observers_for
from .realtime import RealtimeDriver
from .report import DriveReport
from .simulator import Actors, borrowed_world, tick
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
        budget_ms: of a decision, milliseconds; None for one tick.
        realtime: whether the world goes on while an answer is under way.
        gif: where to write a film; None for none.
        config: a YAML file that says which observers there are; None for the ones that fit the card.
    """

    town: str | None = None
    seconds: float = 60.0
    hz: float = 20.0
    traffic: int = 0
    car: str | None = None
    spawn: int = 0
    seed: int = 0
    budget_ms: float | None = None
    realtime: bool = False
    gif: Path | None = None
    config: Path | None = None


class Drive:
    """A drive, under way or over; `figures` says at any time what happened so far."""

    def __init__(self, client: carla.Client, policy: Policy, options: DriveOptions) -> None:
        self._client, self._policy, self._options = client, policy, options
        self._report: DriveReport | None = None
        self._driver: Driver | None = None

    def figures(self) -> dict[str, Any] | None:
        """Counts by name, see `DriveReport.figures`; None before the first tick."""
        if self._report is None or self._driver is None:
            return None
        return self._report.figures(self._driver.record)

    def run(self) -> None:
        """Drives, and leaves the world as it was.

        Raises:
            UnreachableError: the simulator went away.
            DrivingError: the world can't be used, or nothing can be spawned.
            ContractError: the card does not fit any observers, or the rates do not divide.
        """
        options = self._options
        ticks_per_action(self._policy.card.action.rate_hz, options.hz)  # before the world is touched
        film = Film(options.gif, options.hz) if options.gif else None
        with borrowed_world(self._client, options.town, options.hz) as world, Actors(self._client, world) as actors:
            carla_map = world.get_map()
            places = _places(carla_map, options.spawn)
            car = actors.spawn_car(_blueprint(world, options.car), places)
            self._report = DriveReport(carla_map)
            with traffic(self._client, world, actors, places, options.traffic, options.seed):
                tick(world)  # only then the client knows where its actors are
                self._attach(world, actors, car, film)
                ego = EgoReader(car)
                scene = Scene(world, car, actors, options.hz, options.seconds, waits=not options.realtime)
                observers = observers_for(self._policy.card, scene, options.config)
                with self._driving(observers) as driver:
                    driver.check()
                    driver.reset()
                    try:
                        self._loop(world, driver, ego, car, film)
                    finally:
                        if film is not None:
                            film.write()

    @contextlib.contextmanager
    def _driving(self, observers: Any) -> Iterator[Driver]:
        if not self._options.realtime:
            self._driver = Driver(self._policy, observers, self._options.hz, self._options.budget_ms)
            yield self._driver
            return
        self._driver = patient = RealtimeDriver(self._policy, observers, self._options.hz, self._options.budget_ms)
        try:
            yield patient
        finally:
            patient.close()

    def _attach(self, world: carla.World, actors: Actors, car: Any, film: Film | None) -> None:
        assert self._report is not None
        library, here = world.get_blueprint_library(), carla.Transform()
        for name, heard in (("collision", self._report.collided), ("lane_invasion", self._report.crossed)):
            sensor = actors.spawn(library.find(f"sensor.other.{name}"), here, car)
            if sensor is None:
                raise DrivingError(f"the simulator attaches no sensor.other.{name} to the car")
            sensor.listen(heard)
        if film is not None:
            camera = actors.spawn(film.blueprint(library), BEHIND, car)
            if camera is None:
                raise DrivingError("the simulator attaches no camera to the car")
            camera.listen(film.receive)

    def _loop(self, world: carla.World, driver: Driver, ego: EgoReader, car: Any, film: Film | None) -> None:
        assert self._report is not None
        began, ticks = time.monotonic(), round(self._options.seconds * self._options.hz)
        for number in tqdm(range(ticks), desc="driving", unit="tick", disable=None, leave=False):
            snapshot = tick(world)
            car.apply_control(driver.step(snapshot))
            self._report.add(ego.read(snapshot))
            if film is not None:
                film.add(snapshot.frame)
            if self._options.realtime:
                time.sleep(max(began + (number + 1) / self._options.hz - time.monotonic(), 0.0))


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
