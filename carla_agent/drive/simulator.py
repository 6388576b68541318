"""A simulator's world, borrowed: ticked by us while the block lasts, and left as it was found."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import carla

from carla_mlflow import DrivingError, UnreachableError
from carla_mlflow.cli import warn

CONNECT_S = 10.0
"""How long to wait for a simulator's answer; loading a town may take `LOAD_S`."""
LOAD_S = 120.0
SOMEBODY_TICKS_S = 1.0
"""A world in synchronous mode that has not moved for so long was left behind by a client that is gone."""


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT of a simulator; the port's default is CARLA's, 2000.

    Raises:
        DrivingError: it is no such address.
    """
    host, _, port = text.partition(":")
    if not host or not (port or "2000").isdigit() or not 0 < int(port or 2000) < 65536:
        raise DrivingError(f"{text}: expected HOST:PORT, such as localhost:2000")
    return host, int(port or 2000)


def connect(address: str) -> carla.Client:
    """A client of the simulator at that address.

    Raises:
        UnreachableError: no simulator answers there.
        DrivingError: it is another version of CARLA than this client.
    """
    host, port = parse_address(address)
    client = carla.Client(host, port)
    client.set_timeout(CONNECT_S)
    try:
        server = client.get_server_version()
    except RuntimeError as error:
        raise UnreachableError(
            f"{host}:{port}: no CARLA simulator answers: start one there, or name its address with --carla HOST:PORT"
        ) from error
    ours = client.get_client_version()
    if server != ours:
        raise DrivingError(
            f"{host}:{port}: the simulator is CARLA {server} and this client CARLA {ours}: "
            f"pip install carla=={server}, or start CARLA {ours}"
        )
    return client


@contextlib.contextmanager
def borrowed_world(client: carla.Client, town: str | None, hz: float) -> Iterator[carla.World]:
    """The simulator's world in synchronous mode, ticking by our calls only.

    At the end, also after an error or Ctrl-C, its settings are what they were, and so is its town.

    Args:
        client: from `connect`.
        town: the town to load, such as Town04; None for the one that is loaded.
        hz: ticks per simulated second.

    Raises:
        DrivingError: there is no such town, or somebody else uses the world.
    """
    world = client.get_world()
    before = short_name(world.get_map().name)
    _check_nobody_ticks(world)
    with contextlib.ExitStack() as restored:
        if town is not None and short_name(town) != before:
            world = _load(client, world, town)
            restored.callback(restore, "the town", lambda: _load_again(client, before))
        settings = world.get_settings()
        restored.callback(restore, "the world's settings", lambda: client.get_world().apply_settings(settings))
        ours = world.get_settings()
        ours.synchronous_mode, ours.fixed_delta_seconds = True, 1.0 / hz
        world.apply_settings(ours)
        yield world


def restore(what: str, call: Callable[[], Any]) -> None:
    """Restores something; where the simulator is gone, says what could not be."""
    try:
        call()
    except RuntimeError:
        warn(f"the simulator does not answer: {what} could not be restored")


def tick(world: carla.World) -> carla.WorldSnapshot:
    """Moves the world on by one tick, and returns it as it is then.

    Raises:
        UnreachableError: the simulator does not answer any more.
    """
    try:
        world.tick(CONNECT_S)
    except RuntimeError as error:
        raise UnreachableError("the simulator does not answer any more: is it still running?") from error
    return world.get_snapshot()


@contextlib.contextmanager
def one_interrupt() -> Iterator[None]:
    """In the block, the first Ctrl-C or SIGTERM is a KeyboardInterrupt; later ones do not disturb the restoring."""

    def interrupt(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def short_name(town: str) -> str:
    """`Town04` of `Carla/Maps/Town04`."""
    return town.rpartition("/")[2]


def _check_nobody_ticks(world: carla.World) -> None:
    if not world.get_settings().synchronous_mode:
        return
    try:
        world.wait_for_tick(SOMEBODY_TICKS_S)
    except RuntimeError:  # nobody does
        return
    raise DrivingError("another client ticks this world, which takes one only: stop it, or use another simulator")


def _load(client: carla.Client, world: carla.World, town: str) -> carla.World:
    there = sorted({short_name(name) for name in client.get_available_maps()})
    if short_name(town) not in there:
        raise DrivingError(f"the simulator has no town {town}; it has {', '.join(there)}")
    others = [actor for actor in world.get_actors() if actor.type_id.startswith(("vehicle.", "walker.", "sensor."))]
    if others:
        raise DrivingError(
            f"loading {town} would remove {len(others)} actors of somebody else, such as {others[0].type_id}: remove "
            "them, or drive in the town that is loaded"
        )
    client.set_timeout(LOAD_S)
    try:
        return client.load_world(town)
    finally:
        client.set_timeout(CONNECT_S)


def _load_again(client: carla.Client, town: str) -> None:
    client.set_timeout(LOAD_S)
    client.load_world(town)


class Actors:
    """The actors that we have spawned; all of them are destroyed at the end of the block."""

    def __init__(self, client: carla.Client, world: carla.World) -> None:
        self._client, self._world = client, world
        self._spawned: list[Any] = []

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for actor in self._spawned:
                if actor.type_id.startswith("sensor."):
                    actor.stop()
        finally:
            destroy = [carla.command.DestroyActor(actor.id) for actor in reversed(self._spawned)]
            restore("the world without our actors", lambda: self._client.apply_batch_sync(destroy, True))
            self._spawned.clear()

    def spawn(self, blueprint: Any, transform: carla.Transform, parent: Any = None) -> Any | None:
        """Spawns one actor; None where another one is in its way."""
        actor = self._world.try_spawn_actor(blueprint, transform, parent)
        if actor is not None:
            self._spawned.append(actor)
        return actor

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
