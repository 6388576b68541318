"""Calls about traffic: lights, and the traffic manager that drives cars in autopilot.

CARLA's traffic manager is a part of the client's library that takes calls itself. Here the simulator says that one is
running already, at its own port, whatever port is asked for; so the client gives it the cars (trafficmanager/
TrafficManagerClient.h), and they follow their lanes as `behaviours.py` says.
"""

from __future__ import annotations

import random
from typing import Any

from .actors import TrafficLight, Vehicle
from .behaviours import CRUISE_MPS, FollowLane
from .calls import BARE, Call, Calls, bare, order, value


@value
def is_traffic_manager_running(calls: Calls, port: int) -> bool:
    return True


@value
def get_traffic_manager_running(calls: Calls, port: int) -> list[Any]:
    return [calls.host, calls.port]


@bare
def health_check_remote_TM(calls: Calls) -> None:  # noqa: N802 (CARLA's name)
    pass


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


def _taken(calls: Calls, *arguments: Any) -> None:
    """Taken, and not heeded."""


TAKEN: dict[str, Call] = dict.fromkeys(
    (
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
        "shutdown",
    ),
    _taken,
)
BARE.update(TAKEN)


@bare
def synchronous_tick(calls: Calls) -> bool:
    return True


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


@value
def get_group_traffic_lights(calls: Calls, number: int) -> list[int]:
    calls.find(number, TrafficLight)
    return [light.id for light in calls.world.lights()]


@value
def get_light_boxes(calls: Calls, number: int) -> list[Any]:
    return []
