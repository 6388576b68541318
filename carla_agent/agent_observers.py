"""Makes the observers that an agent's configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from numpy.typing import NDArray

from carla_mlflow import ArraySpec, Card, ContractError, DrivingError, ObservationSpec
from carla_mlflow.contract.history import frame_spec

from . import agent_config as configs
from .contract_check import ticks_per_action
from .observers.beams import BEAM_ANGLES_DEG, Beams
from .observers.bird_layouts import CARL, ROACH
from .observers.bird_view import BirdView
from .observers.camera import Camera
from .observers.ego import Ego, EgoReader, EgoSource
from .observers.guidance import Command, TargetPoint
from .observers.measurements import Measurements, carl_measurements, racetrack_measurements, roach_state
from .observers.observer import Observer, Snapshot
from .observers.route import Route
from .observers.sensor_ego import SensorEgo
from .observers.sensor_feed import SensorFeed
from .observers.wheels import WheelControl

SPEEDOMETER, GNSS, IMU = "sensor.speedometer", "sensor.other.gnss", "sensor.other.imu"


class Simulator(Protocol):
    """What an agent of the track MAP reads besides its sensors; srunner's `CarlaDataProvider` has all of it."""

    def hero(self) -> Any:
        """The driven `carla.Vehicle`; None while there is none."""

    def world(self) -> Any:
        """The `carla.World`."""

    def road_map(self) -> Any:
        """The `carla.Map`."""


class HeroEgo:
    """Reads the driven car of the simulator, which is there from the first tick on, but not at the agent's setup."""

    unknown: Mapping[str, str] = MappingProxyType({})

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._reader: EgoReader | None = None

    @property
    def vehicle(self) -> Any:
        """The driven `carla.Vehicle`."""
        return self._found().vehicle

    def forget(self) -> None:
        """Looks for the car anew: a new route may have another."""
        self._reader = None

    def read(self, snapshot: Snapshot) -> Ego:
        """The car at that tick."""
        return self._found().read(snapshot)

    def _found(self) -> EgoReader:
        if self._reader is None:
            self._reader = EgoReader(self._simulator.hero())
        return self._reader


class FromSimulator:
    """An observer that needs the simulator's map or actors, and so is made when a route begins; its spec is known."""

    def __init__(self, spec: ArraySpec, simulator: Simulator, make: Callable[[], Observer]) -> None:
        self._spec = ObservationSpec([spec])
        self._simulator, self._make = simulator, make
        self._made: Observer | None = None

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route, whose town may be another one; reads the town if the car is there already."""
        self._made = None
        if self._simulator.hero() is not None:
            self._ready()

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The field at that tick."""
        return self._ready().observe(snapshot)

    def _ready(self) -> Observer:
        if self._made is None:
            self._made = self._make()
            self._made.reset()
        return self._made


class ObserverFactory:
    """Makes the observers of one agent, which share one route, one feed and one reading of the car.

    Attributes:
        ego: the car as the track allows to read it; None until an observer needs it.
    """

    def __init__(
        self,
        config: configs.AgentConfig,
        card: Card,
        feed: SensorFeed,
        route: Route,
        simulator: Simulator,
        wait_s: float = 0.0,
    ) -> None:
        """Takes what the observers share.

        Args:
            config: names them.
            card: of the policy.
            feed: gets the sensors' data.
            route: gets the plan of each route.
            simulator: read on the track MAP only.
            wait_s: how long an image is waited for; 0 in a leaderboard, which waits itself.
        """
        self._wait_s = wait_s
        self._config, self._card, self._feed, self._route = config, card, feed, route
        self._simulator = simulator
        self.ego: HeroEgo | SensorEgo | None = None

    def make_all(self) -> list[Observer]:
        """The observers in the configuration's order.

        Raises:
            DrivingError: one can't be made with these sensors, on this track, or for this card.
        """
        return [observer for each in self._config.observers for observer in self._make(each)]

    def _make(self, given: configs.ObserverConfig) -> Iterator[Observer]:
        match given:
            case configs.MeasurementsConfig():
                yield Measurements(self._ego(), given.field, given.terms, given.low, given.high)
            case configs.RacetrackConfig():
                yield from racetrack_measurements(self._ego())
            case configs.RoachStateConfig():
                yield roach_state(self._ego(), given.field, given.low, given.high)
            case configs.CarlMeasurementsConfig():
                yield carl_measurements(self._ego(), given.field, list(self._options(given)), given.low, given.high)
            case configs.CameraConfig():
                yield self._camera(given)
            case configs.CommandConfig():
                yield Command(self._route, self._ego(), given.field, given.encoding, given.dtype, given.of)
            case configs.TargetPointConfig():
                # CaRL's rule asks which points lie in a junction, which the plan knows on the track MAP only.
                ego = self._hero("target_point with the rule carl") if given.rule == "carl" else self._ego()
                yield TargetPoint(self._route, ego, given.field, given.rule, given.skip, given.low, given.high)
            case configs.BeamsConfig():
                yield self._beams(given)
            case configs.BirdViewConfig():
                yield self._bird_view(given)

    def _ego(self) -> EgoSource:
        if self.ego is None:
            self.ego = HeroEgo(self._simulator) if self._config.track == "MAP" else self._sensor_ego()
        return self.ego

    def _sensor_ego(self) -> SensorEgo:
        ids = {sensor.type: sensor.id for sensor in self._config.sensors}
        missing = [kind for kind in (SPEEDOMETER, GNSS, IMU) if kind not in ids]
        if missing:
            raise DrivingError(f"on the track SENSORS the car is read from its sensors: add {', '.join(missing)}")
        return SensorEgo(self._feed, ids[SPEEDOMETER], ids[GNSS], ids[IMU])

    def _hero(self, kind: str) -> HeroEgo:
        ego = self._ego()
        if not isinstance(ego, HeroEgo):
            raise DrivingError(f"{kind} reads the simulator, which the track SENSORS forbids; drive on the track MAP")
        return ego

    def _options(self, given: configs.CarlMeasurementsConfig) -> Iterator[Observer]:
        if given.wheels:
            ticks = ticks_per_action(self._card.action.rate_hz, self._config.world_hz)
            yield WheelControl(self._hero("carl_measurements with wheels"), ticks=ticks)
        if given.target_point:
            yield TargetPoint(self._route, self._hero("carl_measurements with target_point"), rule="carl")

    def _camera(self, given: configs.CameraConfig) -> Camera:
        spec = next((spec for spec in frame_spec(self._card.observation) if spec.name == given.field), None)
        if spec is None or spec.dtype != "uint8" or len(spec.shape) != 3:
            raise ContractError(f"{given.field}: the card of {self._card.name} has no such image, uint8 of three axes")
        channels, height, width = spec.shape
        sensor = next((sensor for sensor in self._config.sensors if sensor.id == given.sensor), None)
        if sensor is None:
            raise DrivingError(f"{given.field}: no sensor has the id {given.sensor}")
        if (sensor.height, sensor.width) != (height, width):
            raise ContractError(
                f"{given.field}: the card's images are {width} × {height} pixels, the sensor {sensor.id} is "
                f"{sensor.width} × {sensor.height}"
            )
        shape, ticks = (channels, height, width), max(round((sensor.sensor_tick or 0) * self._config.world_hz), 1)
        wait_s, max_age = (self._wait_s, 1) if ticks == 1 else (0.0, ticks - 1)
        return Camera(self._feed, given.field, shape, sensor.id, given.channels, wait_s, max_age)

    def _beams(self, given: configs.BeamsConfig) -> FromSimulator:
        ego, simulator = self._hero("beams"), self._simulator
        spec = ArraySpec(given.field, "float32", (len(BEAM_ANGLES_DEG),), 0.0, 1.0)

        def make() -> Beams:
            return Beams(ego, simulator.road_map(), simulator.world(), given.field, range_m=given.range_m)

        return FromSimulator(spec, simulator, make)

    def _bird_view(self, given: configs.BirdViewConfig) -> FromSimulator:
        ego, layout = self._hero("bird_view"), {"roach": ROACH, "carl": CARL}[given.layout]
        field = given.field or layout.field
        spec = ArraySpec(field, "uint8", (len(layout.layers), layout.size, layout.size), 0, 255)
        simulator, route = self._simulator, self._route

        def make() -> BirdView:
            return BirdView(ego, simulator.road_map(), simulator.world(), layout, route, field=field)

        return FromSimulator(spec, simulator, make)
