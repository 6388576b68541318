"""Calls about traffic: traffic managers, which drive cars in autopilot, and traffic lights.

CARLA's traffic manager is a part of the client's library, and takes calls of other clients itself. Here the simulator
says that one is running already, at its own port, whatever port is asked for; so the client gives it the cars
(trafficmanager/TrafficManagerClient.h), and they follow their lanes as `behaviours.py` says. With `client_traffic` the
client's own one drives, as it does in CARLA.
"""

from __future__ import annotations

import random
from typing import Any

from .actors import TrafficLight, Vehicle
from .behaviours import CRUISE_MPS, FollowLane
from .calls import BARE, Calls, bare, order, value
from .lights import state_at


@value
def is_traffic_manager_running(calls: Calls, port: int) -> bool:
    return not calls.client_traffic or port in calls.traffic_managers


@value
def get_traffic_manager_running(calls: Calls, port: int) -> list[Any]:
    return [calls.traffic_managers[port], port] if calls.client_traffic else [calls.host, calls.port]


@value
def add_traffic_manager_running(calls: Calls, address: list[Any]) -> bool:
    host, port = address
    is_new = port not in calls.traffic_managers
    calls.traffic_managers.setdefault(port, host)
    return is_new


@order
def destroy_traffic_manager(calls: Calls, port: int) -> None:
    calls.traffic_managers.pop(port, None)


@bare
def register_vehicle(calls: Calls, actors: list[Any]) -> None:
    for number, *_ in actors:
        if isinstance(calls.world.actors.get(number), Vehicle):
            calls.world.behaviours.setdefault(number, FollowLane(choices=random.Random(number)))


@bare
def unregister_vehicle(calls: Calls, actors: list[Any]) -> None:
    for number, *_ in actors:
        calls.world.behaviours.pop(number, None)


@bare
def set_percentage_speed_difference(calls: Calls, actor: list[Any], percent: float) -> None:
    behaviour = calls.world.behaviours.get(actor[0])
    if isinstance(behaviour, FollowLane):
        behaviour.speed = CRUISE_MPS * (1 - percent / 100)


@bare
def set_desired_speed(calls: Calls, actor: list[Any], speed_kmh: float) -> None:
    behaviour = calls.world.behaviours.get(actor[0])
    if isinstance(behaviour, FollowLane):
        behaviour.speed = speed_kmh / 3.6


@bare
def synchronous_tick(calls: Calls) -> bool:
    """The cars act with each tick of the world anyway."""
    return True


def _taken(calls: Calls, *arguments: Any) -> None:
    """Taken, and not heeded."""


BARE.update(
    dict.fromkeys(
        (
            "health_check_remote_TM",
            "set_synchronous_mode",
            "set_synchronous_mode_timeout_in_milisecond",
            "set_random_device_seed",
            "set_global_percentage_speed_difference",
            "set_global_distance_to_leading_vehicle",
            "set_distance_to_leading_vehicle",
            "set_hybrid_physics_mode",
            "set_hybrid_physics_radius",
            "set_auto_lane_change",
            "update_vehicle_lights",
            "shut_down",
        ),
        _taken,
    )
)


@order
def set_traffic_light_state(calls: Calls, number: int, state: int) -> None:
    """Sets it until the light's next change, or for good where it is frozen."""
    light: TrafficLight = calls.find(number, TrafficLight)
    light.state, light.elapsed = state, 0.0


@order
def freeze_traffic_light(calls: Calls, number: int, frozen: bool) -> None:
    calls.find(number, TrafficLight).frozen = frozen


@order
def freeze_all_traffic_lights(calls: Calls, frozen: bool) -> None:
    for light in calls.world.lights():
        light.frozen = frozen


@order
def reset_all_traffic_lights(calls: Calls) -> None:
    """Undoes what was set by hand."""
    for light in calls.world.lights():
        light.state, light.elapsed, light.frozen = state_at(light.pole, calls.world.seconds), 0.0, False


@value
def get_group_traffic_lights(calls: Calls, number: int) -> list[int]:
    calls.find(number, TrafficLight)
    return [light.id for light in calls.world.lights()]


@value
def get_light_boxes(calls: Calls, number: int) -> list[Any]:
    return []
