"""Where cars stop at traffic lights, and what the lights show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH_OF_LANE = 0.8
"""Share of the lane that a stop line spans. Source, as of all in this file: carla-roach,
carla_gym/utils/traffic_light.py; CaRL's birds_eye_view/traffic_light.py adds conditions for European lights."""
ACROSS_M, TO_JUNCTION_M, FARTHEST_M = 1.0, 0.5, 60.0
COUNTDOWN_S = 3.0


@dataclass(frozen=True)
class StopLine:
    """The stop line of one lane.

    Attributes:
        light: a `carla.TrafficLight`.
        ends: its left and right end, (2, 2), metres in the world.
        carriageway: the road's id and the direction (+1, -1) of its lane's id.
    """

    light: Any
    ends: Array
    carriageway: tuple[int, int]


def find_stop_lines(lights: Iterable[Any], carla_map: Any) -> list[StopLine]:
    """The stop lines of traffic lights: on each lane that a light's trigger volume touches, where its junction begins.

    Args:
        lights: `carla.TrafficLight`s, or whatever has their `get_transform`, `trigger_volume` and `state`.
        carla_map: a `carla.Map`.
    """
    return [line for light in lights for line in _lines_of(light, carla_map)]


def _lines_of(light: Any, carla_map: Any) -> list[StopLine]:
    transform, volume = light.get_transform(), light.trigger_volume
    reach = 0.9 * volume.extent.x  # less than the whole, so that it does not touch the next lane
    found: dict[tuple[int, int], StopLine] = {}
    for aside in np.arange(-reach, reach, ACROSS_M):
        place = carla.Location(volume.location.x + float(aside), volume.location.y, volume.location.z)
        waypoint = carla_map.get_waypoint(transform.transform(place))
        lane = waypoint.road_id, waypoint.lane_id
        if lane not in found:
            found[lane] = _line_at(_before_junction(waypoint), light)
    return list(found.values())


def _before_junction(waypoint: Any) -> Any:
    for _ in range(int(FARTHEST_M / TO_JUNCTION_M)):
        ahead = waypoint.next(TO_JUNCTION_M)
        if waypoint.is_junction or not ahead or ahead[0].is_junction:
            break
        waypoint = ahead[0]
    return waypoint


def _line_at(waypoint: Any, light: Any) -> StopLine:
    middle = np.array([waypoint.transform.location.x, waypoint.transform.location.y])
    yaw = np.radians(waypoint.transform.rotation.yaw)
    aside = np.array([-np.sin(yaw), np.cos(yaw)]) * waypoint.lane_width * WIDTH_OF_LANE / 2
    return StopLine(light, np.array([middle - aside, middle + aside]), carriageway_of(waypoint))


def carriageway_of(waypoint: Any) -> tuple[int, int]:
    """The road's id, and the sign of the lane's id: lanes with the same one drive in the same direction."""
    return waypoint.road_id, int(np.sign(waypoint.lane_id))


def yellow_left(light: Any) -> float:
    """How much of the last COUNTDOWN_S seconds of yellow is left, in [0, 1].

    Source: autonomousvision/CaRL, birds_eye_view/bev_observation.py (`_get_mask_from_stopline_vtx`).
    """
    remaining = light.get_yellow_time() - light.get_elapsed_time()
    return float(min(max(remaining / COUNTDOWN_S, 0.0), 1.0))
