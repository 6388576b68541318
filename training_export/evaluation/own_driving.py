"""Drives episodes in an environment of the author's own, and summarises their outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from carla_mlflow.errors import DrivingError
from carla_mlflow.look import bar
from training_export.evaluation.own_env import OwnEnv, call
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import begin_episode

MAX_STEPS = 100_000
"""The most steps of an episode, nearly an hour and a half at 20 Hz; a longer one would probably never end."""
OwnDriver = Callable[[Any], Any]
"""The environment's observation → its action."""


@dataclass(frozen=True)
class Outcome:
    """The keys of `info` that say how an episode went; at least one is set.

    Attributes:
        success: its value at the last step is true if the episode succeeded.
        collision: its value at any step is true, or a number other than 0, for a collision.
    """

    success: str | None
    collision: str | None


@dataclass
class OwnEpisode:
    """The outcome of an episode; `success` is None when the environment does not report it."""

    seed: int
    steps: int = 0
    reward: float = 0.0
    collision: bool = False
    success: bool | None = None

    @property
    def failed(self) -> bool:
        return self.collision or self.success is False


def drive_all(own: OwnEnv, driver: OwnDriver, conditions: Conditions, outcome: Outcome, what: str) -> list[OwnEpisode]:
    """Drives every seed, with a progress bar."""
    return [
        drive(own, driver, seed, outcome) for seed in bar(what, conditions.episodes, "episode", conditions.seeds)
    ]  # fmt: skip


def drive(own: OwnEnv, driver: OwnDriver, seed: int, outcome: Outcome) -> OwnEpisode:
    """Drives one episode; raises DrivingError where it can't be judged, or the author's code fails."""
    where, episode = f"{own.name}, seed {seed}", OwnEpisode(seed)
    begin_episode(driver)
    observation, info = _parts(where, "reset", call(where, lambda: own.env.reset(seed=seed)), 2)
    hit: bool | None = None
    for episode.steps in range(1, MAX_STEPS + 1):
        action = driver(observation)
        stepped = call(where, lambda action=action: own.env.step(action))  # type: ignore[misc]
        observation, reward, terminated, truncated, info = _parts(where, "step", stepped, 5)
        episode.reward += _number(where, "the reward", reward)
        if outcome.collision is not None and outcome.collision in info:
            hit = bool(hit) or bool(_number(where, f"info[{outcome.collision!r}]", info[outcome.collision]))
        if terminated or truncated:
            break
    else:
        raise DrivingError(f"{where}: no end after {MAX_STEPS:,} steps; wrap it in gymnasium.wrappers.TimeLimit")
    if outcome.collision is not None and hit is None:
        raise DrivingError(_absent(where, "no step has", outcome.collision, info))
    if outcome.success is not None:
        if outcome.success not in info:
            raise DrivingError(_absent(where, "the last step has no", outcome.success, info))
        episode.success = bool(_number(where, f"info[{outcome.success!r}]", info[outcome.success]))
    episode.collision = bool(hit)
    return episode


def _parts(where: str, method: str, given: Any, count: int) -> Any:
    if not isinstance(given, tuple) or len(given) != count or not isinstance(given[-1], dict):
        raise DrivingError(f"{where}: {method}() has to return what gymnasium's does: {count} values, the last a dict")
    return given


def _number(where: str, what: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or not math.isfinite(array.item()):
        raise DrivingError(f"{where}: {what} is {value!a:.60}; expected true, false or a finite number")
    return float(array.item())


def _absent(where: str, what: str, key: str, info: dict[str, Any]) -> str:
    return f"{where}: {what} info[{key!r}]; the last step has {', '.join(map(ascii, info)) or 'nothing'}"


Drives = dict[str, list[OwnEpisode]]
"""Driver → its episodes, all on the same seeds."""


def summarise(episodes: list[OwnEpisode]) -> dict[str, float | int]:
    """Means and rates over episodes, rounded for people."""
    count, steps = len(episodes), [episode.steps for episode in episodes]
    figures: dict[str, float | int] = {"episodes": count}
    if episodes[0].success is not None:
        figures["success_rate"] = round(sum(bool(e.success) for e in episodes) / count, 4)
    return figures | {
        "collision_rate": round(sum(e.collision for e in episodes) / count, 4),
        "failed_rate": round(sum(e.failed for e in episodes) / count, 4),
        "reward_mean": round(float(np.mean([e.reward for e in episodes])), 3),
        **({"steps_mean": round(float(np.mean(steps)), 1)} if any(steps) else {}),
    }


def rows_of(drives: Drives) -> list[dict[str, Any]]:
    """One row per episode and driver, as the registry's gates read them."""
    return [{"driver": driver, **vars(episode)} for driver, episodes in drives.items() for episode in episodes]
