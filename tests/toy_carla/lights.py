"""Traffic lights: where they stand, which cars they stop, and when they change."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .actors import Box, TrafficLight, Transform, Vehicle
from .roads import Road, Signal
from .towns import LANE_WIDTH, Town
from .wire import GREEN_S, RED_S, YELLOW_S

RED, YELLOW, GREEN = range(3)
TRIGGER_M = 8.0
"""Length of the box before the stop line in which a light concerns a car."""
TURN_S = GREEN_S + YELLOW_S + RED_S
ARMS = 4


def post(town: Town, road: Road, signal: Signal) -> tuple[Transform, Box]:
    """Where the light stands, beside the stop line and looking along the lane, and its box over the lane before it."""
    lane = next(lane for lane in road.lanes if (lane.id < 0) == signal.forward)
    end = road.length if signal.forward else 0.0
    x, y, yaw = town.lane_pose(road, lane, end)
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    aside = LANE_WIDTH / 2 + 1.0
    place = Transform((x - aside * sin, y + aside * cos, 0.0), (0.0, yaw, 0.0))
    return place, Box((-TRIGGER_M / 2, -aside, 1.0), (TRIGGER_M / 2, LANE_WIDTH / 2 - 0.2, 1.0))


def concerns(light: TrafficLight, car: Vehicle) -> bool:
    """Whether the car's centre is in the light's box."""
    (lx, ly, _), (x, y, _) = light.transform.location, car.transform.location
    yaw = math.radians(light.transform.yaw)
    ahead = (x - lx) * math.cos(yaw) + (y - ly) * math.sin(yaw) - light.box.center[0]
    right = (y - ly) * math.cos(yaw) - (x - lx) * math.sin(yaw) - light.box.center[1]
    return abs(ahead) <= light.box.extent[0] and abs(right) <= light.box.extent[1]


def change(lights: Iterable[TrafficLight], before: float, now: float) -> None:
    """Sets what changes between two moments: one arm of the crossing is green, then yellow, then all are red."""
    for light in lights:
        if light.frozen:
            continue
        light.elapsed += now - before
        state = state_at(light.pole, now)
        if state != state_at(light.pole, before):
            light.state, light.elapsed = state, 0.0


def state_at(pole: int, now: float) -> int:
    """Of the light of that number within the group."""
    since = (now - pole * TURN_S) % (ARMS * TURN_S)
    return GREEN if since < GREEN_S else YELLOW if since < GREEN_S + YELLOW_S else RED
