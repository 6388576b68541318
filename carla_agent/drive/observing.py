"""The observers that a card needs, made from a vehicle in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import carla

from carla_mlflow import Card, ContractError

from ..observers.beams import Beams
from ..observers.ego import EgoReader
from ..observers.measurements import racetrack_measurements
from ..observers.observer import Observer
from .simulator import Actors


@dataclass(frozen=True)
class Scene:
    """What observers are made from.

    Attributes:
        world: the simulator's.
        car: the driven car.
        ego: its reader.
        actors: spawns the sensors that an observer needs, which go with the drive.
    """

    world: carla.World
    car: Any
    ego: EgoReader
    actors: Actors


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
        config: the file that names them; None for those whose fields are called as the card's are.

    Raises:
        ContractError: no observers are known for such a card.
    """
    names = frozenset(card.observation_spec.names)
    if names not in KNOWN:
        raise ContractError(
            f"{card.name} {card.version} observes {', '.join(card.observation_spec.names)}, for which no observers are "
            "known: name them in a file, and give it with --config"
        )
    return KNOWN[names](scene)
