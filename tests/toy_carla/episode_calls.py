"""Calls about the episode: version, settings, time, towns, and what is not there but asked for."""

from __future__ import annotations

from typing import Any

from . import wire
from .blueprints import BLUEPRINTS, uid
from .calls import Calls, order, value
from .settings import Settings
from .towns import TOWNS

WEATHER = [0.0] * 14
"""rpc/WeatherParameters.h: clear, without wind; the toy world keeps none."""


@value
def version(calls: Calls) -> str:
    return calls.version


@value
def get_episode_info(calls: Calls) -> list[Any]:
    return [calls.world.episode, [wire.token(wire.WORLD_STREAM, calls.host, calls.stream_port)]]


@value
def get_sensor_token(calls: Calls, stream: int) -> list[Any]:
    calls.expect(stream)
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


@value
def get_actor_definitions(calls: Calls) -> list[Any]:
    return [blueprint.definition(uid(blueprint)) for blueprint in BLUEPRINTS.values()]


@value
def get_weather_parameters(calls: Calls) -> list[float]:
    return WEATHER


@order
def set_weather_parameters(calls: Calls, weather: list[float]) -> None:
    """Taken, and not heeded: it is always clear."""


@value
def query_lights_state(calls: Calls, client: str = "") -> list[Any]:
    """Street lamps: there are none."""
    return []


@value
def get_all_level_BBs(calls: Calls, label: int = 0) -> list[Any]:  # noqa: N802 (CARLA's name)
    """Boxes of what belongs to the town, such as parked cars: there are none."""
    return []


@value
def get_environment_objects(calls: Calls, label: int = 0) -> list[Any]:
    return []


@value
def get_names_of_all_objects(calls: Calls) -> list[str]:
    return []


@order
def draw_debug_shape(calls: Calls, shape: Any) -> None:
    """Taken, and not drawn."""
