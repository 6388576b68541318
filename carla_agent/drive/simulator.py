"""A simulator's world, borrowed: ticked by us while the block lasts, and left as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import carla

from carla_mlflow import DrivingError
from carla_mlflow.cli import warn
from carla_mlflow.escaping import one_line

from .connection import CONNECT_S

LOAD_S = 120.0
"""How long loading a town may take, seconds."""
GONE_S = 1.0
"""How long each further call may take while a world is restored, once one has failed, seconds."""
ABANDONED_S = 1.0
"""Seconds after which a synchronous world that has not ticked counts as abandoned by its client."""


@contextlib.contextmanager
def borrowed_world(client: carla.Client, town: str | None, hz: float) -> Iterator[carla.World]:
    """The simulator's world in synchronous mode, ticking by our calls only.

    At the end, also after an error, its town and its settings are what they were.

    Args:
        client: from `connect`.
        town: the town to load, such as Town04; None for the one that is loaded.
        hz: ticks per simulated second.

    Raises:
        DrivingError: there is no such town, or another client uses the world.
    """
    world = client.get_world()
    before, settings = short_name(world.get_map().name), world.get_settings()
    _check_nobody_ticks(world)
    with contextlib.ExitStack() as restored:
        # Loading a town resets the settings: these are restored last.
        restored.callback(
            restore, client, "restore the world's settings", lambda: client.get_world().apply_settings(settings)
        )
        if town is not None and short_name(town) != before:
            _check_town(client, world, town)
            restored.callback(restore, client, f"load {before} again", lambda: _load(client, before))
            world = _load(client, town)
        ours = world.get_settings()
        ours.synchronous_mode, ours.fixed_delta_seconds = True, 1.0 / hz
        world.apply_settings(ours)
        yield world


def restore(client: carla.Client, what: str, call: Callable[[], Any]) -> None:
    """Calls the simulator to leave its world as it was; a failure is a warning.

    Args:
        client: of the simulator.
        what: the end of the warning's "could not …", such as "remove our actors".
        call: does it.
    """
    try:
        call()
    except RuntimeError as error:
        client.set_timeout(GONE_S)
        warn(f"could not {what}: {one_line(error)}")


def short_name(town: str) -> str:
    """`Town04` of `Carla/Maps/Town04`."""
    return town.rpartition("/")[2]


def _check_nobody_ticks(world: carla.World) -> None:
    if not world.get_settings().synchronous_mode:
        return
    try:
        world.wait_for_tick(ABANDONED_S)
    except RuntimeError:  # nobody does
        return
    raise DrivingError("another client is ticking this world, and only one can: stop it, or use another simulator")


def _check_town(client: carla.Client, world: carla.World, town: str) -> None:
    there = sorted({short_name(name) for name in client.get_available_maps()})
    if short_name(town) not in there:
        raise DrivingError(f"the simulator has no town {town}; it has {', '.join(there)}")
    others = [actor for actor in world.get_actors() if actor.type_id.startswith(("vehicle.", "walker.", "sensor."))]
    if others:
        raise DrivingError(
            f"loading {town} would remove {len(others)} actors of other clients, such as {others[0].type_id}: remove "
            "them, or drive in the town that is loaded"
        )


def _load(client: carla.Client, town: str) -> carla.World:
    if short_name(client.get_world().get_map().name) == short_name(town):
        return client.get_world()
    client.set_timeout(LOAD_S)
    try:
        return client.load_world(town)
    finally:
        client.set_timeout(CONNECT_S)
