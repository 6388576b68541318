"""A driver that does not wait: the world goes on while an answer is under way."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import carla

from carla_mlflow import Actions
from carla_mlflow.contract.actions import fallback_actions

from ..driver import Driver, Missing, Observation
from ..observers.observer import Snapshot


class RealtimeDriver(Driver):
    """A `Driver` whose `step` returns at once with the latest control; one answer at most is under way.

    While an answer is within its budget, the previous control drives on; past it, the fallback does.
    """

    _answer: Future[Actions] | None = None
    _asked_at = 0.0
    _skipped: tuple[Observation | None, ...] = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As `Driver`."""
        super().__init__(*arguments, **options)
        self._thread = ThreadPoolExecutor(1, "decision")
        self._keeps_frames = any(field.history for field in self.policy.card.observation.values())

    def reset(self) -> None:
        """As `Driver.reset`, once the answer that is under way has come."""
        if self._answer is not None:
            self._answer.result()
            self._answer = None
        self._skipped = ()
        super().reset()

    def step(self, snapshot: Snapshot) -> carla.VehicleControl:
        """As `Driver.step`, without waiting for the answer to what is asked at this tick."""
        observation = self._observe(snapshot)
        if self._answer is not None and self._answer.done():
            self.actions, self._answer = self._answer.result(), None
        is_due = self._is_due(snapshot)
        if self._answer is None:
            if is_due:
                self._asked_at = time.monotonic()
                self._answer = self._thread.submit(self._tick, observation, self._skipped)
                self._skipped = ()
            return self._latest()
        if is_due:
            self._skipped += (observation if self._keeps_frames and not isinstance(observation, Missing) else None,)
        if (time.monotonic() - self._asked_at) * 1e3 > self.budget_ms:
            self.actions = self._late() if is_due else fallback_actions(self.policy.card.action, 1)
        return self._latest()

    def _latest(self) -> carla.VehicleControl:
        latest = self.actions or fallback_actions(self.policy.card.action, 1)
        return carla.VehicleControl(*latest.vehicle_control())

    def close(self) -> None:
        """Waits for the answer that is under way, and ends the thread."""
        self._thread.shutdown()
