"""A car in the environment that gets its actions from a running server, over one kept-alive connection."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.client.client import PolicyClient
from carla_mlflow.look import bar
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import Episode, Observation, drive_episode
from training_export.racetrack.plots import FRAME_EVERY, film_env, write_gif


@dataclass
class RemoteDrive:
    """The episodes, each response's latency in milliseconds, and (version, digest) → the number of its responses."""

    episodes: list[Episode]
    latencies_ms: list[float] = field(default_factory=list)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)

    def latency(self, percentile: float) -> float:
        return float(np.percentile(self.latencies_ms, percentile))


def drive_remote(client: PolicyClient, conditions: Conditions, gif: Path | None = None) -> RemoteDrive:
    """Drives every seed with the server's actions; films the first episode when `gif` is given."""
    result = RemoteDrive([])

    def drive(observation: Observation) -> NDArray[np.float32]:
        is_due, started = route.is_due, time.perf_counter()
        actions = route.act(observation)
        if is_due:
            result.latencies_ms.append((time.perf_counter() - started) * 1e3)
            policy = (client.version, client.digest)
            result.versions[policy] = result.versions.get(policy, 0) + 1
        return np.asarray(actions.control[0])

    env = film_env(conditions.traffic, conditions.duration_s)
    try:
        for seed in bar("driving", conditions.episodes, "episode", conditions.seeds):
            route = client.start_episode()
            filmed = gif is not None and seed == conditions.first_seed
            result.episodes.append(drive_episode(env, drive, seed, FRAME_EVERY if filmed else 0))
    finally:
        env.close()
    if gif is not None:
        write_gif(gif, result.episodes[0])
    return result
