"""A policy as a driver of the racetrack, in this process or behind a server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.policy import Policy
from training_export.racetrack.driving import Observation


class EpisodeDriver:
    """A policy as a driver: one observation at a time, in episodes, as in a car."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.begin()

    def begin(self) -> None:
        """Begins an episode."""
        self._episode = self._policy.start_episode()

    @property
    def is_due(self) -> bool:
        """Whether the next tick asks the policy."""
        return self._episode.is_due

    def skip(self, observation: Observation) -> None:
        """A tick at which nobody asks; its frame is kept."""
        self._episode.skip(observation)

    def decide(self, observation: Observation, budget_ms: float | None) -> NDArray[np.float32] | None:
        """The control; None where it was late."""
        actions = self._episode.act(observation, budget_ms=budget_ms)
        return None if actions.fallback else np.asarray(actions.control[0])

    def __call__(self, observation: Observation) -> NDArray[np.float32]:
        return np.asarray(self._episode.act(observation).control[0])
