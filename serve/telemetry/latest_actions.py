"""The latest action of each episode on one connection, to be compared with the next; kept as long as the connection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.limits import MAX_EPISODE_ROWS, MAX_EPISODES
from serve.telemetry import metrics


class LatestActions:
    """Keeps the most recently used episodes of a connection, at most MAX_EPISODES with MAX_EPISODE_ROWS rows in all."""

    __slots__ = ("_controls", "_rows")

    def __init__(self) -> None:
        self._controls: dict[str, NDArray[np.float32]] = {}  # least recently used first
        self._rows = 0

    def replace(self, episode_id: str, control: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Keeps the latest action of an episode; returns the one before.

        Args:
            episode_id: of the episode.
            control: throttle, brake, steer, (B, 3); it is copied.

        Returns:
            (B, 3); None where none is known, or one for another number of rows.
        """
        before = self._controls.pop(episode_id, None)
        self._controls[episode_id] = control.copy()  # a view would keep its whole batch in memory
        self._rows += len(control) - (0 if before is None else len(before))
        while len(self._controls) > MAX_EPISODES or self._rows > MAX_EPISODE_ROWS:
            self.forget(next(iter(self._controls)))
        return None if before is None or len(before) != len(control) else before

    def count_change(self, episode_id: str, version: str, control: NDArray[np.float32] | None) -> None:
        """Counts how much an episode's action changes; to be called in the order of its requests.

        Args:
            episode_id: of the episode.
            version: of the policy that answered.
            control: throttle, brake, steer, (B, 3); None for an error: the car did something else, not known here.
        """
        if control is None:
            self.forget(episode_id)
            return
        before = self.replace(episode_id, control)
        if before is not None:
            metrics.BUFFER.changed(version, before, control)

    def forget(self, episode_id: str) -> None:
        """Forgets the latest action of an episode."""
        before = self._controls.pop(episode_id, None)
        self._rows -= 0 if before is None else len(before)
