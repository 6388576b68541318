"""The racetrack that policies are trained and judged on: highway-env's `racetrack-v1`, seen through beams.

The car has throttle and brake as one axis and steering as the other, drives on a two-lane track with or
without traffic, and sees what a real car could know: its speed, its steering, and the free distance along
beams. Beams march through the track rasterised once per process, which costs microseconds where highway-env's
own observations cost milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from highway_env.envs.common.action import ContinuousAction
from highway_env.envs.common.observation import ObservationType
from highway_env.envs.racetrack_env import RacetrackEnv
from highway_env.road.road import RoadNetwork
from highway_env.vehicle.kinematics import Vehicle
from numpy.typing import NDArray

ENV_ID = "racetrack-v1"
RATE_HZ = 10
SIMULATION_HZ = 20
MAX_SPEED_MPS = 60.0
CRUISE_SPEED_MPS = 6.5
"""The speed the reward asks for: with the slower of the traffic, which drives at 6 to 9 m/s."""
HEADWAY_S = 1.5
"""Time between bumpers below which following counts as tailgating."""

BEAM_ANGLES_DEG = (-90.0, -55.0, -32.0, -17.0, -7.0, 0.0, 7.0, 17.0, 32.0, 55.0, 90.0, 180.0)
"""Clockwise from straight ahead, as steering is: denser ahead, one to each side, one to the rear."""
BEAM_RANGE_M = 40.0
BEAM_STEP_M = 0.4
CELL_M = 0.25

Array = NDArray[np.float64]


class ForwardCar(Vehicle):  # type: ignore[misc]
    """highway-env's bicycle model, whose brake stops the car and never reverses it."""

    MAX_SPEED = MAX_SPEED_MPS
    speed: float

    def step(self, dt: float) -> None:
        if not self.crashed:
            self.action["acceleration"] = max(self.action["acceleration"], -self.speed / dt)
        super().step(dt)
        self.speed = max(self.speed, 0.0)


class CarControl(ContinuousAction):  # type: ignore[misc]
    """[acceleration, steer], each in [-1, 1]: ±5 m/s² and ±30 degrees at the front wheels."""

    def __init__(self, env: RacetrackEnv) -> None:
        super().__init__(env, acceleration_range=(-5.0, 5.0), steering_range=(-np.pi / 6, np.pi / 6))

    @property
    def vehicle_class(self) -> type[ForwardCar]:
        return ForwardCar


@dataclass(frozen=True)
class TrackRaster:
    """Where there is road: a grid of CELL_M cells with its world origin in metres."""

    road: NDArray[np.bool_]
    origin: Array

    def is_road(self, points: Array) -> NDArray[np.bool_]:
        """Tells for world points (..., 2) in metres whether each lies on the road; shape (...)."""
        cells = np.floor((points - self.origin) / CELL_M).astype(np.intp)
        x = np.clip(cells[..., 0], 0, self.road.shape[0] - 1)
        y = np.clip(cells[..., 1], 0, self.road.shape[1] - 1)
        return np.asarray(self.road[x, y])


def rasterise(network: RoadNetwork) -> TrackRaster:
    """Paints every lane of a road network into a grid, with an empty border all around."""
    step = CELL_M * 0.4  # finer than a cell, also on the outside of a bend, so that no cell inside a lane is left out
    points = []
    for lane in network.lanes_list():
        half = lane.width_at(0) / 2
        for along in np.arange(0.0, lane.length + step, step):
            across = np.linspace(-half, half, int(2 * half / step) + 2)
            edges = np.array([lane.position(along, -half), lane.position(along, half)])
            points.append(edges[0] + (across[:, None] + half) / (2 * half) * (edges[1] - edges[0]))
    painted = np.concatenate(points)
    origin = painted.min(axis=0) - 2 * CELL_M
    cells = np.floor((painted - origin) / CELL_M).astype(np.intp)
    road = np.zeros(cells.max(axis=0) + 3, dtype=np.bool_)
    road[cells[:, 0], cells[:, 1]] = True
    return TrackRaster(road, origin)


class Beams(ObservationType):  # type: ignore[misc]
    """`speed`, `steering`, `sensors`: what the card's observation section describes."""

    env: Racetrack

    @staticmethod
    def boxes() -> dict[str, spaces.Box]:
        """The fields in the card's order."""
        return {
            "speed": spaces.Box(0.0, MAX_SPEED_MPS, (), np.float32),
            "steering": spaces.Box(-1.0, 1.0, (), np.float32),
            "sensors": spaces.Box(0.0, 1.0, (len(BEAM_ANGLES_DEG),), np.float32),
        }

    def space(self) -> spaces.Dict:
        return spaces.Dict(list(self.boxes().items()))  # a list keeps the order, where a dict would be sorted

    def observe(self) -> dict[str, Any]:
        car = self.env.vehicle
        return {
            "speed": np.float32(np.clip(car.speed, 0.0, MAX_SPEED_MPS)),
            "steering": np.float32(self.env.last_steer),
            "sensors": self.env.measure_beams().astype(np.float32),
        }


_ANGLES = np.deg2rad(BEAM_ANGLES_DEG)
_REACHES = np.arange(BEAM_STEP_M, BEAM_RANGE_M + BEAM_STEP_M / 2, BEAM_STEP_M)


def road_beams(raster: TrackRaster, position: Array, heading: float) -> Array:
    """Free distance to the road's edge along every beam, in metres, shape (12,)."""
    angles = heading + _ANGLES
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = position + directions[:, None, :] * _REACHES[None, :, None]
    blocked = ~raster.is_road(points)
    first = blocked.argmax(axis=1)
    return np.where(blocked.any(axis=1), _REACHES[first] - BEAM_STEP_M / 2, BEAM_RANGE_M)


def car_beams(position: Array, heading: float, others: list[Vehicle]) -> Array:
    """Free distance to the nearest other car along every beam, in metres, shape (12,); infinite when free.

    Each car is a box; a beam meets it where the slabs of its two axes overlap.
    """
    distance = np.full(len(_ANGLES), np.inf)
    for other in others:
        if np.hypot(*(other.position - position)) > BEAM_RANGE_M + other.LENGTH:
            continue
        cos, sin = np.cos(other.heading), np.sin(other.heading)
        offset = position - other.position
        start = np.array([offset @ (cos, sin), offset @ (-sin, cos)])
        relative = heading + _ANGLES - other.heading
        direction = np.stack([np.cos(relative), np.sin(relative)])
        direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
        half = np.array([[other.LENGTH / 2], [other.WIDTH / 2]])
        ends = (np.stack([-half, half]) - start[:, None]) / direction
        enter, leave = ends.min(axis=0).max(axis=0), ends.max(axis=0).min(axis=0)
        distance = np.where((enter <= leave) & (enter > 0), np.minimum(distance, enter), distance)
    return distance


class Racetrack(RacetrackEnv):  # type: ignore[misc]
    """`racetrack-v1` with throttle, brake and steering, beams to see by, and up to `traffic` other cars."""

    _raster: TrackRaster | None = None  # the track never changes; painted at the first reset
    last_steer = 0.0
    _steer_change = 0.0

    def __init__(self, traffic: int = 0, duration_s: float = 30.0, render_mode: str | None = None) -> None:
        config = {
            "other_vehicles": traffic,
            "duration": duration_s,
            "policy_frequency": RATE_HZ,
            "simulation_frequency": SIMULATION_HZ,
            # Otherwise traffic is blind past the end of its own stretch of lane, and runs into cars there.
            "neighbour_vehicles_connected_lanes": True,
        }
        super().__init__(config=config, render_mode=render_mode)

    def define_spaces(self) -> None:
        self.observation_type = Beams(self)
        self.action_type = CarControl(self)
        self.observation_space = self.observation_type.space()
        self.action_space = self.action_type.space()

    def _reset(self) -> None:
        self.last_steer = self._steer_change = 0.0
        super()._reset()
        if self._raster is None:
            self._raster = rasterise(self.road.network)

    def measure_beams(self) -> Array:
        """Free distance along every beam as a share of BEAM_RANGE_M, in [0, 1], shape (12,)."""
        car = self.vehicle
        others = [other for other in self.road.vehicles if other is not car]
        assert self._raster is not None  # painted by the first reset
        free = np.minimum(
            road_beams(self._raster, car.position, car.heading), car_beams(car.position, car.heading, others)
        )
        return np.clip(free / BEAM_RANGE_M, 0.0, 1.0)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drives one tick with [acceleration, steer], each clipped to [-1, 1]."""
        steer = float(np.clip(action[1], -1.0, 1.0))
        self._steer_change, self.last_steer = steer - self.last_steer, steer
        step: tuple[Any, float, bool, bool, dict[str, Any]] = super().step(action)
        return step

    def _reward(self, action: NDArray[np.float32]) -> float:
        if self._is_terminated():
            return -10.0
        car = self.vehicle
        _, lateral, angle = car.lane_offset
        progress = min(car.speed * np.cos(angle), CRUISE_SPEED_MPS) / CRUISE_SPEED_MPS
        excess = max(car.speed - CRUISE_SPEED_MPS, 0.0) / CRUISE_SPEED_MPS
        return float(progress - excess - self._tailgating() - 0.1 * abs(lateral) / 2.5 - 0.3 * abs(self._steer_change))

    def _tailgating(self) -> float:
        """How far inside HEADWAY_S the car ahead is: 0 at that distance or beyond, 1 at its bumper."""
        car = self.vehicle
        ahead, _ = self.road.neighbour_vehicles(car, car.lane_index)
        if ahead is None or not isinstance(ahead, Vehicle):
            return 0.0
        gap = float(np.hypot(*(ahead.position - car.position))) - car.LENGTH
        return float(np.clip(1.0 - gap / (HEADWAY_S * max(car.speed, 2.0)), 0.0, 1.0))

    def _info(self, obs: Any, action: Any = None) -> dict[str, Any]:
        car = self.vehicle
        return {"speed": car.speed, "crashed": bool(car.crashed), "off_road": not car.on_road}
