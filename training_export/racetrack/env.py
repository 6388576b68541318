"""The racetrack on which policies are trained and evaluated: highway-env's `racetrack-v1`, observed through beams.

The car has throttle and brake as one axis and steering as the other, drives on a two-lane track with or
without traffic, and observes what a real car could know: its speed, its steering, and the free distance along
beams. Beams are traced on a raster of the track made once, which takes microseconds where highway-env's own
observations take milliseconds.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from gymnasium import spaces
from highway_env.envs.common.action import ContinuousAction
from highway_env.envs.common.observation import ObservationType
from highway_env.envs.racetrack_env import RacetrackEnv
from highway_env.vehicle.kinematics import Vehicle
from numpy.typing import NDArray

from training_export.racetrack.beams import (
    BEAM_ANGLES_DEG,
    BEAM_RANGE_M,
    Array,
    TrackRaster,
    car_beams,
    rasterise,
    road_beams,
)

ENV_ID = "racetrack-v1"
RATE_HZ = 10
SIMULATION_HZ = 20
MAX_SPEED_MPS = 60.0
CRUISE_SPEED_MPS = 6.5
"""The speed that the reward favours: that of the slower traffic, which drives at 6 to 9 m/s."""
HEADWAY_S = 1.5
"""Time between bumpers below which following counts as tailgating."""

REVISION = 1
"""The revision of this folder's environment. Raise it when you change what an episode is (dynamics, reward, beams,
traffic, when it ends): evidence from other revisions is then no longer compared.
tests/training_export/racetrack/test_env.py checks an episode of this revision."""


def env_version() -> str:
    """The versions of highway-env and of our code on top; policies met the same episodes only if these are equal."""
    return f"highway-env {importlib.metadata.version('highway-env')}, revision {REVISION}"


class ForwardCar(Vehicle):  # type: ignore[misc]
    """highway-env's bicycle model with a brake that stops the car but never reverses it."""

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


class Beams(ObservationType):  # type: ignore[misc]
    """The observations `speed`, `steering` and `sensors`, as in the card's observation section."""

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


class Racetrack(RacetrackEnv):  # type: ignore[misc]
    """`racetrack-v1` with throttle, brake and steering, observations by beams, and up to `traffic` other cars."""

    _raster: TrackRaster | None = None  # the track never changes; painted at the first reset
    last_steer = 0.0
    _steer_change = 0.0

    def __init__(self, traffic: int = 0, duration_s: float = 30.0, render_mode: str | None = None) -> None:
        config = {
            "other_vehicles": traffic,
            "duration": duration_s,
            "policy_frequency": RATE_HZ,
            "simulation_frequency": SIMULATION_HZ,
            # Otherwise other cars do not see beyond the end of their own lane segment, and run into cars there.
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
        """Free distance along every beam as a fraction of BEAM_RANGE_M, in [0, 1], shape (12,)."""
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
        """How far inside HEADWAY_S the car ahead is: 0 at that distance or beyond, 1 when the bumpers touch."""
        car = self.vehicle
        ahead, _ = self.road.neighbour_vehicles(car, car.lane_index)
        if ahead is None or not isinstance(ahead, Vehicle):
            return 0.0
        gap = float(np.hypot(*(ahead.position - car.position))) - car.LENGTH
        return float(np.clip(1.0 - gap / (HEADWAY_S * max(car.speed, 2.0)), 0.0, 1.0))

    def _info(self, obs: Any, action: Any = None) -> dict[str, Any]:
        car = self.vehicle
        return {"speed": car.speed, "crashed": bool(car.crashed), "off_road": not car.on_road}
