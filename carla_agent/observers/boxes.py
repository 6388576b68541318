"""Other actors as boxes seen from above, read from CARLA once per tick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple, Protocol

import carla
import numpy as np
from numpy.typing import NDArray

from .ego import Ego

Array = NDArray[np.float64]

LEVEL_M = 8.0
"""Actors that are more than this above or below the car are on another level. Source: carla-roach,
obs_manager/birdview/chauffeurnet.py."""
OWN_M = 1.0
"""An actor that is nearer than this is the driven car itself, where its id is not known. Source: likewise."""


class Actor(Protocol):
    """What is read of an actor; `carla.Vehicle` and `carla.Walker` are such."""

    @property
    def id(self) -> int: ...
    @property
    def type_id(self) -> str: ...
    @property
    def bounding_box(self) -> Any:
        """A `carla.BoundingBox` in the actor's own axes; reading it is a call to the simulator."""

    def get_transform(self) -> Any:
        """A `carla.Transform`; CARLA's client takes it from the tick that it received, without a call."""

    def get_velocity(self) -> Any:
        """A `carla.Vector3D` in the world's axes, m/s; likewise."""


class World(Protocol):
    """What is used of a `carla.World`."""

    def get_actors(self) -> Iterable[Any]:
        """All actors."""


Actors = World | Callable[[], Iterable[Any]]
"""Where other actors come from: a `carla.World`, or a function that returns them at each tick."""


@dataclass(frozen=True)
class Boxes:
    """Boxes seen from above, in CARLA's world: x forward (or east), y right (or south), metres.

    Attributes:
        kinds: `type_id` of each, such as "vehicle.tesla.model3".
        centre: (N, 2).
        forward: unit vectors along their length, (N, 2).
        half: half of their length and width, (N, 2).
        speed: m/s, (N,).
        lamps: `carla.VehicleLightState` as a number, int64 (N,); 0 for what has no lamps, and where they are not read.
        is_emergency: whether it is a vehicle with a blue or red light, bool (N,).
    """

    kinds: tuple[str, ...]
    centre: Array
    forward: Array
    half: Array
    speed: Array
    lamps: NDArray[np.int64]
    is_emergency: NDArray[np.bool_]

    def of(self, prefixes: tuple[str, ...], without: tuple[str, ...] = ()) -> Boxes:
        """Those whose type begins with one of these, and has none of the others in it."""
        chosen = [kind.startswith(prefixes) and not any(part in kind for part in without) for kind in self.kinds]
        return Boxes(
            tuple(compress(self.kinds, chosen)),
            self.centre[chosen],
            self.forward[chosen],
            self.half[chosen],
            self.speed[chosen],
            self.lamps[chosen],
            self.is_emergency[chosen],
        )


class BoxReader:
    """Reads the boxes near the car; what never changes of an actor, its box, is read once."""

    def __init__(
        self, actors: Actors, kinds: tuple[str, ...], own_id: int | None = None, reads_lamps: bool = False
    ) -> None:
        """Reads actors of some kinds.

        Args:
            actors: a `carla.World`, or a function that returns the actors.
            kinds: what their `type_id` begins with, such as "vehicle.".
            own_id: of the driven car, which is none of the others. None: an actor whose origin is within OWN_M of the
                car's is the car.
            reads_lamps: whether lamps are wanted.
        """
        self._actors: Callable[[], Iterable[Actor]] = actors if callable(actors) else actors.get_actors
        self._kinds, self._own_id, self._reads_lamps = kinds, own_id, reads_lamps
        self._all_lamps: Callable[[], Mapping[int, Any]] | None = getattr(actors, "get_vehicles_light_states", None)
        self._shapes: dict[int, _Shape] = {}

    def read(self, ego: Ego, reach_m: float) -> Boxes:
        """The boxes of actors that are no farther from the car than that along x and y, on the car's level."""
        kinds, rows = [], []
        x, y, z = ego.location
        # Asking each vehicle would be a call to the simulator for each.
        all_lamps = self._all_lamps() if self._reads_lamps and self._all_lamps is not None else {}
        for actor in self._actors():
            if not actor.type_id.startswith(self._kinds) or actor.id == self._own_id:
                continue
            transform = actor.get_transform()
            place = transform.location
            aside = max(abs(place.x - x), abs(place.y - y))
            if aside > reach_m or abs(place.z - z) > LEVEL_M or (self._own_id is None and aside < OWN_M):
                continue
            kinds.append(actor.type_id)
            lit = int(all_lamps.get(actor.id, 0) if self._all_lamps else self._lamps_of(actor))
            rows.append((*self._row(actor, transform), lit))
        values = np.array(rows, dtype=np.float64).reshape(-1, 8)
        yaw = np.radians(values[:, 2])
        forward = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
        is_emergency, lamps = values[:, 6] > 0, values[:, 7].astype(np.int64)
        return Boxes(tuple(kinds), values[:, :2], forward, values[:, 3:5], values[:, 5], lamps, is_emergency)

    def _row(self, actor: Actor, transform: Any) -> tuple[float, ...]:
        shape = self._shapes.get(actor.id)
        if shape is None:
            shape = self._shapes[actor.id] = _shape_of(actor)
        centre = transform.transform(carla.Location(*shape.offset))  # CARLA changes its argument in place
        yaw, speed = transform.rotation.yaw + shape.yaw, actor.get_velocity().length()
        return centre.x, centre.y, yaw, *shape.half, speed, shape.is_emergency

    def _lamps_of(self, actor: Any) -> Any:
        return actor.get_light_state() if self._reads_lamps and hasattr(actor, "get_light_state") else 0


class _Shape(NamedTuple):
    """What never changes of an actor: its box in its own axes, and what it is."""

    offset: tuple[float, float, float]
    yaw: float
    half: tuple[float, float]
    is_emergency: bool


def _shape_of(actor: Any) -> _Shape:
    box = actor.bounding_box  # a call to the simulator
    attributes = getattr(actor, "attributes", {})
    return _Shape(
        (box.location.x, box.location.y, box.location.z),
        box.rotation.yaw,
        (box.extent.x, box.extent.y),
        attributes.get("special_type") == "emergency",
    )
