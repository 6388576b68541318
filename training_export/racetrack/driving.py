"""Closed-loop driving: episodes on the racetrack with any driver, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from training_export.racetrack.env import RATE_HZ, Racetrack

Observation = Mapping[str, NDArray[np.float32]]
Driver = Callable[[Observation], NDArray[np.float32]]
"""One observation without the batch axis → throttle, brake, steer, shape (3,)."""


@runtime_checkable
class Remembering(Protocol):
    """A driver that keeps something from tick to tick, such as a policy with memory, and forgets it between routes."""

    def begin(self) -> None:
        """Begins an episode."""


def begin_episode(driver: object) -> None:
    """Tells a driver that keeps something that an episode begins."""
    if isinstance(driver, Remembering):
        driver.begin()


@dataclass
class Episode:
    """One episode from reset to end; the lists have one entry per tick (`frames`: per rendered frame)."""

    seed: int
    reward: float = 0.0
    crashed: bool = False
    off_road: bool = False
    speeds: list[float] = field(default_factory=list)
    steers: list[float] = field(default_factory=list)
    positions: list[tuple[float, float]] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return len(self.speeds) / RATE_HZ

    @property
    def distance_m(self) -> float:
        return sum(self.speeds) / RATE_HZ

    @property
    def succeeded(self) -> bool:
        """Whether the car stayed on the road, without a collision, to the end."""
        return not (self.crashed or self.off_road)

    @property
    def steer_acceleration(self) -> float:
        """Root mean square of the steering command's second derivative, in 1/s² (steer runs from -1 to 1)."""
        if len(self.steers) < 3:
            return 0.0
        return float(np.sqrt(np.mean((np.diff(self.steers, 2) * RATE_HZ**2) ** 2)))

    def row(self) -> dict[str, Any]:
        """The episode as one row of a table."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "reward": round(self.reward, 3),
            "distance_m": round(self.distance_m, 1),
            "speed_mps": round(self.distance_m / self.seconds, 2),
            "collision": self.crashed,
            "off_road": self.off_road,
            "steer_acceleration": round(self.steer_acceleration, 2),
        }


def drive_episode(env: Racetrack, driver: Driver, seed: int, frame_every: int = 0) -> Episode:
    """Drives one episode; records a rendered frame every `frame_every` ticks when that is not 0."""
    episode = Episode(seed)
    begin_episode(driver)
    observation, _ = env.reset(seed=seed)
    done = False
    while not done:
        throttle, brake, steer = driver(observation)
        episode.observations.append(observation)
        # float64: highway-env computes in it, and a float32 action would round its state.
        observation, reward, terminated, truncated, info = env.step(
            np.array([throttle - brake, steer], dtype=np.float64)
        )
        episode.reward += float(reward)
        episode.speeds.append(float(info["speed"]))
        episode.steers.append(float(steer))
        episode.positions.append((float(env.vehicle.position[0]), float(env.vehicle.position[1])))
        if frame_every and len(episode.speeds) % frame_every == 0:
            episode.frames.append(env.render())
        episode.crashed, episode.off_road = bool(info["crashed"]), bool(info["off_road"])
        done = terminated or truncated
    return episode


def drive_episodes(driver: Driver, seeds: Iterable[int], traffic: int, duration_s: float = 30.0) -> list[Episode]:
    """Drives one episode per seed."""
    env = Racetrack(traffic=traffic, duration_s=duration_s)
    try:
        return [drive_episode(env, driver, seed) for seed in seeds]
    finally:
        env.close()


def summarise(episodes: list[Episode]) -> dict[str, float | int]:
    """Means and rates over episodes, rounded for people, with the same keys wherever they are shown."""
    count = len(episodes)
    return {
        "episodes": count,
        "success_rate": round(sum(e.succeeded for e in episodes) / count, 4),
        "collision_rate": round(sum(e.crashed for e in episodes) / count, 4),
        "off_road_rate": round(sum(e.off_road for e in episodes) / count, 4),
        "reward_mean": round(float(np.mean([e.reward for e in episodes])), 3),
        "distance_m_mean": round(float(np.mean([e.distance_m for e in episodes])), 1),
        "speed_mps_mean": round(sum(e.distance_m for e in episodes) / sum(e.seconds for e in episodes), 3),
        "steer_acceleration_mean": round(float(np.mean([e.steer_acceleration for e in episodes])), 3),
    }


def straight_ahead(observation: Observation) -> NDArray[np.float32]:
    """A driver for comparison: holds 8 m/s and never steers."""
    return np.array([0.3 if observation["speed"] < 8.0 else 0.0, 0.0, 0.0], dtype=np.float32)


def random_driver(seed: int) -> Driver:
    """A driver for comparison: uniformly random acceleration and steering at every tick."""
    rng = np.random.default_rng(seed)

    def drive(_: Observation) -> NDArray[np.float32]:
        acceleration, steer = rng.uniform(-1.0, 1.0, 2)
        return np.array([max(acceleration, 0.0), max(-acceleration, 0.0), steer], dtype=np.float32)

    return drive
