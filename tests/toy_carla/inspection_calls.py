"""Calls that CARLA doesn't have: with them a test looks into the world, and sets it to what it wants to see.

They are answered when the simulator has fallen silent, too.
"""

from __future__ import annotations

import random
from typing import Any

from .actors import Vehicle, Walker
from .behaviours import FollowLane, WalkAlong
from .calls import Calls, bare


@bare
def toy_report(calls: Calls) -> dict[str, Any]:
    """The world as it is; `toy_carla.py` says what each entry means."""
    world = calls.world
    return {
        "town": world.town.name,
        "episode": world.episode,
        "frame": world.frame,
        "ticks": world.ticks,
        "seconds": world.seconds,
        "synchronous": world.settings.synchronous_mode,
        "fixed_delta_seconds": world.settings.fixed_delta_seconds,
        "actors": [
            {
                "id": actor.id,
                "type_id": actor.type_id,
                "parent": actor.parent,
                "role_name": actor.attributes.get("role_name", ""),
                "location": actor.transform.location,
                "yaw": actor.transform.yaw,
                "speed": actor.speed if isinstance(actor, Vehicle) else 0.0,
                "control": actor.control if isinstance(actor, Vehicle | Walker) else [],
                "off_road_ticks": actor.off_road_ticks if isinstance(actor, Vehicle) else 0,
                "collisions": actor.collisions if isinstance(actor, Vehicle | Walker) else 0,
            }
            for actor in world.actors.values()
        ],
    }


@bare
def toy_is_off_road(calls: Calls, number: int) -> bool:
    return calls.world.is_off_road(number)


@bare
def toy_fall_silent(calls: Calls, silent: bool) -> None:
    calls.silent = silent


@bare
def toy_follow_lane(calls: Calls, number: int, speed: float) -> None:
    calls.find(number, Vehicle)
    calls.world.behaviours[number] = FollowLane(speed, random.Random(number))


@bare
def toy_walk(calls: Calls, number: int, path: list[list[float]], speed: float, wait_s: float) -> None:
    calls.find(number, Walker)
    points = [(x, y) for x, y in path]
    calls.world.behaviours[number] = WalkAlong(points, speed, calls.world.seconds + wait_s)
