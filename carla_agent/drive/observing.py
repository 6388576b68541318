"""The observers that a card needs, made from a vehicle in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla
import msgspec

from carla_mlflow import Card, ContractError, DrivingError

from ..agent_config import SensorConfig, load_agent_config
from ..agent_observers import ObserverFactory
from ..observers.beams import Beams
from ..observers.ego import EgoReader
from ..observers.measurements import racetrack_measurements
from ..observers.observer import Observer
from ..observers.route import Route, plan_from_lanes
from ..observers.sensor_feed import SensorFeed
from .simulator import Actors

ROUTE_M = 5000.0
"""How long a route along the lanes is; a drive that takes longer has its end as the target."""
IMAGE_WAIT_S = 1.0
"""How long a tick's image is waited for, while the world stands still."""


@dataclass(frozen=True)
class Scene:
    """What observers are made from.

    Attributes:
        world: the simulator's.
        car: the driven car.
        ego: its reader.
        actors: spawns the sensors that an observer needs, which go with the drive.
        waits: whether the world waits for the sensors.
    """

    world: carla.World
    car: Any
    ego: EgoReader
    actors: Actors
    waits: bool = True


def racetrack(scene: Scene) -> list[Observer]:
    """What policies of `training_export train`, such as examples/v0.1.0, see: speed, steering and 12 beams."""
    return [*racetrack_measurements(scene.ego), Beams(scene.ego, scene.world.get_map(), scene.world)]


KNOWN: Mapping[frozenset[str], Callable[[Scene], list[Observer]]] = {
    frozenset({"speed", "steering", "sensors"}): racetrack,
}
"""Names of a card's fields → what makes them. That the fields fit in type and bounds, too, is checked afterwards."""


def observers_for(card: Card, scene: Scene, config: Path | None) -> list[Observer]:
    """The observers that make a card's fields.

    Args:
        card: of the policy that drives.
        scene: what they are made from.
        config: an agent's file (agent_config.py), of which observers and cameras count here: the car is read from the
            simulator whatever the track, and its route are the lanes ahead. None for the observers whose fields are
            called as the card's are.

    Raises:
        ContractError: no observers are known for such a card.
        DrivingError: the file is wrong, or an observer or a sensor of it can't be made.
    """
    if config is not None:
        return _configured(card, scene, config)
    names = frozenset(card.observation_spec.names)
    if names not in KNOWN:
        raise ContractError(
            f"{card.name} {card.version} observes {', '.join(card.observation_spec.names)}, for which no observers are "
            "known: name them in a file, and give it with --config"
        )
    return KNOWN[names](scene)


class _Surroundings:
    """The `Simulator` of a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def hero(self) -> Any:
        return self._scene.car

    def world(self) -> Any:
        return self._scene.world

    def road_map(self) -> Any:
        return self._scene.world.get_map()


def _configured(card: Card, scene: Scene, file: Path) -> list[Observer]:
    hz = round(1.0 / scene.world.get_settings().fixed_delta_seconds, 6)
    config = msgspec.structs.replace(load_agent_config(file, needs_policy=False), track="MAP", world_hz=hz)
    feed, route = SensorFeed(), Route()
    route.replace(plan_from_lanes(scene.world.get_map(), scene.car.get_location(), ROUTE_M))
    wait_s = IMAGE_WAIT_S if scene.waits else 0.0
    observers = ObserverFactory(config, card, feed, route, _Surroundings(scene), wait_s).make_all()
    for sensor in config.sensors:
        if sensor.type.startswith("sensor.camera."):
            _attach_camera(scene, sensor, feed)
    return observers


def _attach_camera(scene: Scene, sensor: SensorConfig, feed: SensorFeed) -> None:
    blueprint = scene.world.get_blueprint_library().find(sensor.type)
    given = {"image_size_x": sensor.width, "image_size_y": sensor.height, "fov": sensor.fov}
    for name, value in given.items():
        if value is not None:
            blueprint.set_attribute(name, str(value))
    place = carla.Transform(
        carla.Location(sensor.x, sensor.y, sensor.z), carla.Rotation(sensor.pitch, sensor.yaw, sensor.roll)
    )
    camera = scene.actors.spawn(blueprint, place, scene.car)
    if camera is None:
        raise DrivingError(f"the simulator attaches no {sensor.type} to the car")
    camera.listen(feed.put(sensor.id))
