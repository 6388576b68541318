"""The observers that a card needs, made in the simulator from the same configuration as a leaderboard's agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla
import msgspec

from carla_mlflow import Card, CarlaMlflowError, ContractError
from carla_mlflow.cli import warn

from ..agent_config import AgentConfig, CameraConfig, SensorConfig, load_agent_config
from ..agent_observers import ObserverFactory
from ..observers.ego import EgoReader, EgoSource
from ..observers.observer import Observer
from ..observers.route import Route, plan_from_lanes
from ..observers.sensor_feed import SensorFeed
from .spawned import SpawnedActors

EXAMPLES = Path(__file__).parent.parent / "examples"
IMAGE_S = 2.0
"""How long to wait for the image of a tick while the world stands still, seconds."""
ROUTE_MPS, MAX_ROUTE_M = 30.0, 20_000.0
"""The route ahead is as long as this speed covers in the drive, and no longer than that; its end is the last target."""


@dataclass(frozen=True)
class Scene:
    """What observers are made from; the `Simulator` of the observers' factory.

    Attributes:
        carla_world: the simulator's world.
        car: the driven car.
        actors: spawns the cameras that an observer needs, which go with the drive.
        hz: ticks per simulated second.
        seconds: how long the drive takes.
        waits: whether the world stands still until a tick's images are there.
    """

    carla_world: carla.World
    car: Any
    actors: SpawnedActors
    hz: float
    seconds: float
    waits: bool = True

    def hero(self) -> Any:
        """The driven car."""
        return self.car

    def world(self) -> Any:
        """The simulator's world."""
        return self.carla_world

    def road_map(self) -> Any:
        """Its map."""
        return self.carla_world.get_map()


def observers_for(card: Card, scene: Scene, path: Path | None) -> tuple[list[Observer], EgoSource]:
    """The observers that make a card's fields, and the reading of the car that they share.

    Args:
        card: of the policy that drives.
        scene: what they are made from.
        path: of an agent's configuration, of which observers and sensors count; None for the first of the examples
            whose fields have the names of the card's.

    Raises:
        DrivingError: the configuration is wrong.
        ContractError: no example makes such fields.
    """
    config = _fitting(card, scene) if path is None else _given(path, scene)
    feed, route = SensorFeed(), Route()
    factory = ObserverFactory(config, card, feed, route, scene, IMAGE_S if scene.waits else 0.0)
    made = factory.make_all()
    length_m = min(scene.seconds * ROUTE_MPS, MAX_ROUTE_M)
    route.replace(plan_from_lanes(scene.road_map(), scene.car.get_location(), length_m))
    for sensor in _cameras(config):
        _attach(scene, feed, sensor)
    return made, factory.ego or EgoReader(scene.car)


def _given(path: Path, scene: Scene) -> AgentConfig:
    config = load_agent_config(path, needs_policy=False)
    if config.track == "SENSORS":
        warn(f"{path.name}: its track is SENSORS, but here the car is read from the simulator")
    return _here(config, scene)


def _here(config: AgentConfig, scene: Scene) -> AgentConfig:
    """The same for a drive, in which the car is always read from the simulator."""
    return msgspec.structs.replace(config, track="MAP", world_hz=scene.hz)


def _fitting(card: Card, scene: Scene) -> AgentConfig:
    wanted = set(card.observation_spec.names)
    for path in sorted(EXAMPLES.glob("*.yaml")):
        config = _here(load_agent_config(path, needs_policy=False), scene)
        try:
            made = ObserverFactory(config, card, SensorFeed(), Route(), scene).make_all()
        except CarlaMlflowError:  # such as a camera for a card without images
            continue
        if {spec.name for observer in made for spec in observer.spec} == wanted:
            return config
    raise ContractError(
        f"{card.name} {card.version} observes {', '.join(sorted(wanted))}: name what makes these in a file such as "
        f"carla_agent/examples/{sorted(EXAMPLES.glob('*.yaml'))[0].name}, and give it with --config"
    )


def _cameras(config: AgentConfig) -> Iterator[SensorConfig]:
    used = {each.sensor for each in config.observers if isinstance(each, CameraConfig)}
    return (sensor for sensor in config.sensors if sensor.id in used)


def _attach(scene: Scene, feed: SensorFeed, sensor: SensorConfig) -> None:
    blueprint = scene.carla_world.get_blueprint_library().find(sensor.type)
    given = {"image_size_x": sensor.width, "image_size_y": sensor.height, "fov": sensor.fov}
    for name, value in {**given, "sensor_tick": sensor.sensor_tick}.items():
        if value is not None:
            blueprint.set_attribute(name, str(value))
    place = carla.Location(sensor.x, sensor.y, sensor.z)
    transform = carla.Transform(place, carla.Rotation(sensor.pitch, sensor.yaw, sensor.roll))
    scene.actors.attach(blueprint, transform, scene.car).listen(feed.put(sensor.id))
