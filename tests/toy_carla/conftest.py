"""A toy world for each file of tests, and a client's view of it for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import carla
import pytest

from toy_carla import ToyCarla

Spawn = Callable[..., carla.Actor]


@pytest.fixture(scope="module")
def toy() -> Iterator[ToyCarla]:
    with ToyCarla() as toy:
        yield toy


@pytest.fixture
def client(toy: ToyCarla) -> carla.Client:
    client = carla.Client(toy.host, toy.port)
    client.set_timeout(20.0)
    return client


@pytest.fixture
def town() -> str:
    return "ring"


@pytest.fixture
def world(client: carla.Client, town: str) -> Iterator[carla.World]:
    """The town without any actor, in synchronous mode at 20 Hz; afterwards in asynchronous mode again."""
    world = client.load_world(town)
    before = world.get_settings()
    world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
    yield world
    world.apply_settings(before)


@pytest.fixture
def spawn(world: carla.World) -> Spawn:
    """Spawns a blueprint at a spawn point, by its number, or at a transform; attributes by keyword."""

    def spawn(
        blueprint: str, where: int | carla.Transform = 0, parent: carla.Actor | None = None, **attributes: object
    ) -> carla.Actor:
        chosen = world.get_blueprint_library().find(blueprint)
        for name, value in attributes.items():
            chosen.set_attribute(name, str(value))
        place = world.get_map().get_spawn_points()[where] if isinstance(where, int) else where
        return world.spawn_actor(chosen, place, attach_to=parent)

    return spawn
