"""What each remote call does to the world. The calls' names and arguments: LibCarla, client/detail/Client.cpp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import wire
from .actors import Actor, Transform, Vehicle, Walker
from .blueprints import BLUEPRINTS, uid
from .rpc import UnknownMethodError
from .settings import Settings
from .towns import TOWNS
from .world import World, WorldError

Call = Callable[..., Any]
VALUES: dict[str, Call] = {}
"""Calls that return something."""
ORDERS: dict[str, Call] = {}
"""Calls that return nothing."""


def value(call: Call) -> Call:
    VALUES[call.__name__] = call
    return call


def order(call: Call) -> Call:
    ORDERS[call.__name__] = call
    return call


class Calls:
    """Answers remote calls.

    Attributes:
        world: on which they act.
        version: which the server says it has.
    """

    def __init__(self, world: World, version: str, step: Callable[[], None]) -> None:
        """`step` lets one tick pass and sends what it has to show."""
        self.world, self.version, self.step = world, version, step
        self.host, self.stream_port = "127.0.0.1", 0

    def handle(self, method: str, arguments: list[Any]) -> Any:
        """Answers one call; the first argument is LibCarla's metadata, whether the client waits for the answer."""
        if method == "apply_batch":
            return apply_batch(self, *arguments[1:])
        if (call := VALUES.get(method)) is not None:
            try:
                return [[1, call(self, *arguments[1:])]]
            except WorldError as error:
                return [[0, [str(error)]]]
        if (call := ORDERS.get(method)) is None:
            raise UnknownMethodError(method)
        try:
            call(self, *arguments[1:])
        except WorldError as error:
            return [[True, [str(error)]]]
        return [[False]]

    def actor(self, one: Actor) -> list[Any]:
        return wire.actor(one, self.host, self.stream_port)

    def find(self, number: int, kind: type[Any] = Actor) -> Any:
        """The actor of that number.

        Raises:
            WorldError: there is none, or it is of another kind.
        """
        one = self.world.actors.get(number)
        if not isinstance(one, kind):
            raise WorldError(f"actor {number} not found")
        return one


@value
def version(calls: Calls) -> str:
    return calls.version


@value
def get_episode_info(calls: Calls) -> list[Any]:
    return [calls.world.episode, [wire.token(wire.WORLD_STREAM, calls.host, calls.stream_port)]]


@value
def get_sensor_token(calls: Calls, stream: int) -> list[Any]:
    return [wire.token(stream, calls.host, calls.stream_port)]


@value
def get_episode_settings(calls: Calls) -> list[Any]:
    return calls.world.settings.to_wire()


@value
def set_episode_settings(calls: Calls, settings: list[Any]) -> int:
    calls.world.settings = Settings.of(settings)
    return calls.world.frame


@value
def tick_cue(calls: Calls) -> int:
    """Lets one tick pass where the mode is synchronous; else the client waits for the next one that comes by itself."""
    if not calls.world.settings.synchronous_mode:
        return calls.world.frame + 1
    calls.step()
    return calls.world.frame


@value
def get_map_info(calls: Calls) -> list[Any]:
    spawns = [[[x, y, 0.5], [0.0, yaw, 0.0]] for x, y, yaw in calls.world.town.spawn_points]
    return [_map_name(calls.world.town.name), spawns]


@value
def get_map_data(calls: Calls) -> str:
    return calls.world.town.opendrive


@value
def get_required_files(calls: Calls, folder: str = "") -> list[str]:
    return []


@value
def get_available_maps(calls: Calls) -> list[str]:
    return [f"/Game/{_map_name(town)}" for town in TOWNS]


def _map_name(town: str) -> str:
    return f"Carla/Maps/{town}"


@order
def load_new_episode(calls: Calls, name: str, reset_settings: bool = True, layers: int = 0) -> None:
    calls.world.load(name, keep_settings=not reset_settings)
    calls.step()


@value
def get_actor_definitions(calls: Calls) -> list[Any]:
    return [blueprint.definition(uid(blueprint)) for blueprint in BLUEPRINTS.values()]


@value
def get_spectator(calls: Calls) -> list[Any]:
    return calls.actor(calls.world.spectator)


@value
def get_actors_by_id(calls: Calls, numbers: list[int]) -> list[Any]:
    return [calls.actor(calls.world.actors[number]) for number in numbers if number in calls.world.actors]


@value
def get_actor_bounding_box(calls: Calls, number: int) -> list[Any]:
    return wire.box(calls.find(number).box)


@value
def spawn_actor(calls: Calls, description: list[Any], transform: list[Any]) -> list[Any]:
    return calls.actor(calls.world.spawn(description, Transform.of(transform)))


@value
def spawn_actor_with_parent(
    calls: Calls, description: list[Any], transform: list[Any], parent: int, attachment: int, bone: str = ""
) -> list[Any]:
    return calls.actor(calls.world.spawn(description, Transform.of(transform), parent))


@value
def destroy_actor(calls: Calls, number: int) -> bool:
    calls.world.destroy(number)
    return True


@order
def apply_control_to_vehicle(calls: Calls, number: int, control: list[Any]) -> None:
    calls.find(number, Vehicle).control = control


@order
def apply_control_to_walker(calls: Calls, number: int, control: list[Any]) -> None:
    calls.find(number, Walker).control = control


@order
def set_actor_transform(calls: Calls, number: int, transform: list[Any]) -> None:
    calls.find(number).transform = Transform.of(transform)


@value
def query_lights_state(calls: Calls, client: str = "") -> list[Any]:
    return []


def apply_batch(calls: Calls, commands: list[Any], tick: bool = False) -> list[Any]:
    """Carries out commands one by one; the answers are ids or errors, one each."""
    answers: list[Any] = []
    for [[kind, arguments]] in commands:
        call = COMMANDS.get(kind)
        try:
            if call is None:
                raise WorldError(f"toy_carla: there is no command {kind}")
            answers.append([[1, call(calls, *arguments)]])
        except WorldError as error:
            answers.append([[0, [str(error)]]])
    if tick:
        calls.step()
    return answers


def _on_actor(call: Call) -> Call:
    """A command that is a call with the actor first, and answers with the actor's id."""

    def run(calls: Calls, number: int, *rest: Any) -> int:
        call(calls, number, *rest)
        return number

    return run


COMMANDS: dict[int, Call] = {
    1: _on_actor(destroy_actor),
    2: _on_actor(apply_control_to_vehicle),
    4: _on_actor(apply_control_to_walker),
    6: _on_actor(set_actor_transform),
}
"""By place in `Command::CommandType` (LibCarla, rpc/Command.h)."""
