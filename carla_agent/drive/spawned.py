"""The actors that a drive has spawned, which go with it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import carla

from carla_mlflow import DrivingError
from carla_mlflow.interrupt import Interrupt

from .simulator import restore


class SpawnedActors:
    """Spawns actors; all of them are destroyed at the end of the block."""

    def __init__(self, client: carla.Client, world: carla.World, interrupt: Interrupt) -> None:
        self._client, self._world, self._interrupt = client, world, interrupt
        self._spawned: list[Any] = []

    def __enter__(self) -> SpawnedActors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        restore(self._client, "stop our sensors", self._stop_sensors)
        destroy = [carla.command.DestroyActor(actor.id) for actor in reversed(self._spawned)]
        restore(self._client, "remove our actors", lambda: self._client.apply_batch_sync(destroy, True))
        self._spawned.clear()

    def _stop_sensors(self) -> None:
        for actor in self._spawned:
            if actor.type_id.startswith("sensor."):
                actor.stop()

    def spawn(self, blueprint: Any, transform: carla.Transform, parent: Any = None) -> Any | None:
        """Spawns one actor; None where another one is in its way."""
        self._interrupt.check()
        actor = self._world.try_spawn_actor(blueprint, transform, parent)
        if actor is not None:
            self._spawned.append(actor)
        return actor

    def attach(self, blueprint: Any, transform: carla.Transform, car: Any) -> Any:
        """Attaches a sensor to a car.

        Raises:
            DrivingError: the simulator refuses it.
        """
        sensor = self.spawn(blueprint, transform, car)
        if sensor is None:
            raise DrivingError(f"the simulator attaches no {blueprint.id} to the car")
        return sensor

    def spawn_car(self, blueprint: Any, places: Sequence[carla.Transform]) -> Any:
        """Spawns a car at the first free place.

        Raises:
            DrivingError: none is free.
        """
        for place in places:
            car = self.spawn(blueprint, place)
            if car is not None:
                return car
        raise DrivingError(f"none of the map's {len(places)} spawn points is free: remove what stands there")
