"""The stop sign that concerns the car now: one whose area lies ahead in its lane, until the car has stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from .ego import Ego

Array = NDArray[np.float64]

NEAR_M, STOPPED_MPS, LOOK_AHEAD_M, STEP_M = 50.0, 0.1, 20, 1.0
"""Source, as of the rules here: carla-roach, task_actor/common/criteria/run_stop_sign.py."""


@dataclass(frozen=True)
class StopSign:
    """A stop sign's area, made square: as long as it is wide.

    Attributes:
        place: of the sign, (2,), metres in the world.
        centre: of its area, (2,).
        forward: unit vector along the sign's x axis, (2,).
        half: half of the area's side, metres.
    """

    place: Array
    centre: Array
    forward: Array
    half: float


def find_stop_signs(signs: Iterable[Any]) -> list[StopSign]:
    """The areas of `traffic.stop` actors, or whatever has their `get_transform` and `trigger_volume`."""
    return [_area_of(sign) for sign in signs]


def _area_of(sign: Any) -> StopSign:
    transform, volume = sign.get_transform(), sign.trigger_volume
    centre = transform.transform(carla.Location(volume.location.x, volume.location.y, volume.location.z))
    yaw = np.radians(transform.rotation.yaw)
    place = np.array([transform.location.x, transform.location.y])
    forward = np.array([np.cos(yaw), np.sin(yaw)])
    return StopSign(place, np.array([centre.x, centre.y]), forward, max(volume.extent.x, volume.extent.y))


class StopSignAhead:
    """Follows one car: which sign it has to stop for, and whether it has."""

    def __init__(self, signs: list[StopSign], carla_map: Any) -> None:
        """Watches these signs on a `carla.Map`."""
        self._signs, self._map = signs, carla_map
        self._target: StopSign | None = None
        self._has_stopped = False

    def tick(self, ego: Ego) -> StopSign | None:
        """The sign that the car has to stop for; None when there is none, and when it has stopped."""
        if not self._signs:
            return None
        if self._target is None:
            self._target = self._find(ego)
            self._has_stopped = False
        else:
            self._has_stopped |= ego.speed < STOPPED_MPS
            if not self._concerns(ego, self._target):
                self._target = None
        return None if self._has_stopped else self._target

    def _find(self, ego: Ego) -> StopSign | None:
        turned = self._map.get_waypoint(carla.Location(*ego.location)).transform.rotation.yaw - ego.yaw
        if np.cos(np.radians(turned)) <= 0:  # in an oncoming lane
            return None
        return next((sign for sign in self._signs if self._concerns(ego, sign)), None)

    def _concerns(self, ego: Ego, sign: StopSign) -> bool:
        if np.hypot(*(sign.place - ego.location[:2])) > NEAR_M:
            return False
        ahead = [ego.location[:2]]
        waypoint = self._map.get_waypoint(carla.Location(*ego.location))
        for _ in range(LOOK_AHEAD_M):
            following = waypoint.next(STEP_M)
            if not following:
                break
            waypoint = following[0]
            ahead.append((waypoint.transform.location.x, waypoint.transform.location.y))
        # The rule's area is square along the world's axes, whatever the sign's direction.
        return bool((np.abs(np.array(ahead) - sign.centre) < sign.half).all(axis=1).any())
