"""Other cars, driven by CARLA's traffic manager, which runs in this process."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence

import carla

from carla_mlflow.cli import warn

from .simulator import restore
from .spawned import SpawnedActors


@contextlib.contextmanager
def traffic(
    client: carla.Client,
    world: carla.World,
    actors: SpawnedActors,
    places: Sequence[carla.Transform],
    count: int,
    seed: int,
) -> Iterator[None]:
    """Other cars that drive on their own as long as the block lasts.

    CARLA's traffic manager resets the town's traffic lights when it gets its seed.

    Args:
        client: of the simulator.
        world: in synchronous mode.
        actors: spawns and destroys them.
        places: spawn points, the free ones of which are taken in order.
        count: how many cars; a warning says it when fewer places are free.
        seed: of the choice of cars, and of the traffic manager.
    """
    if not count:
        yield
        return
    port = _free_port()
    manager = client.get_trafficmanager(port)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(seed)
    try:
        spawned = _spawn(world, actors, places, count, random.Random(seed))
        for car in spawned:
            car.set_autopilot(True, port)
        if len(spawned) < count:
            warn(f"only {len(spawned)} of {count} other cars found a free spawn point")
        yield
    finally:
        restore(client, "end the traffic manager's synchronous mode", lambda: manager.set_synchronous_mode(False))
        restore(client, "shut down the traffic manager", manager.shut_down)


def _spawn(
    world: carla.World, actors: SpawnedActors, places: Sequence[carla.Transform], count: int, choose: random.Random
) -> list[carla.Actor]:
    cars = four_wheeled(world)
    spawned: list[carla.Actor] = []
    for place in places:
        if len(spawned) == count:
            break
        blueprint = choose.choice(cars)
        blueprint.set_attribute("role_name", "autopilot")
        car = actors.spawn(blueprint, place)
        if car is not None:
            spawned.append(car)
    return spawned


def four_wheeled(world: carla.World) -> list[carla.ActorBlueprint]:
    """The blueprints of cars, trucks and vans, by name."""
    found = [
        blueprint
        for blueprint in world.get_blueprint_library().filter("vehicle.*")
        if not blueprint.has_attribute("number_of_wheels") or int(blueprint.get_attribute("number_of_wheels")) == 4
    ]
    return sorted(found, key=lambda blueprint: str(blueprint.id))


def _free_port() -> int:
    """A port of our own, so that this is not the manager of another client."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
