"""Calls about traffic: which traffic managers run, and traffic lights.

CARLA's traffic manager is a part of the client's library: it reads the snapshots, and drives its cars by batches of
controls. It does so here, too; the simulator only keeps where managers run. Without one, `ToyCarla.follow_lane` lets a
car drive by itself.
"""

from __future__ import annotations

from typing import Any

from .actors import TrafficLight
from .calls import Calls, order, value
from .lights import state_at
from .world import WorldError


@value
def is_traffic_manager_running(calls: Calls, port: int) -> bool:
    return port in calls.traffic_managers


@value
def get_traffic_manager_running(calls: Calls, port: int) -> list[Any]:
    if port not in calls.traffic_managers:
        raise WorldError(f"no traffic manager runs at port {port}")
    return [calls.traffic_managers[port], port]


@value
def add_traffic_manager_running(calls: Calls, address: list[Any]) -> bool:
    host, port = address
    is_new = port not in calls.traffic_managers
    calls.traffic_managers.setdefault(port, host)
    return is_new


@order
def destroy_traffic_manager(calls: Calls, port: int) -> None:
    calls.traffic_managers.pop(port, None)


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
