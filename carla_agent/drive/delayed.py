"""A driver whose actions land after a latency in simulated time, so that the machine's speed changes nothing."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

import carla

from carla_mlflow import Actions, Policy, SpecError
from carla_mlflow.contract.actions import fallback_actions
from carla_mlflow.latency.in_flight import InFlight, is_late
from carla_mlflow.latency.sources import LatencySource
from carla_mlflow.latency.trace import Trace

from ..driver import Driver, Missing, Observation
from ..observers.observer import Observer, Snapshot

MIN_HZ = 100.0
"""The fewest ticks per simulated second: an action may apply 10 ms after it landed, and no later."""
CLOCK_US = 100
"""How far the simulator's clock, a sum of time steps in floating point, may be off."""


class DelayedDriver(Driver):
    """A `Driver` in a world that stands still while the policy decides, and lets the action land later.

    One action at most is under way. It applies at the first tick after it has landed, the action before until then, and
    the card's fallback before the first. An answer past the budget is the fallback, once the budget is over.

    Attributes:
        applied: the latency of every request so far, also of those that were late.
        condition: the name of the latencies; equal only for equal ones.
    """

    def __init__(
        self,
        policy: Policy,
        observers: Sequence[Observer],
        world_hz: float,
        source: LatencySource,
        budget_ms: float | None = None,
        seed: int = 0,
    ) -> None:
        """As `Driver`, but for the budget: None is no limit.

        Args:
            policy: a PolicyClient, or an Engine in this process.
            observers: together they make every field of the card.
            world_hz: ticks per simulated second, at least MIN_HZ.
            source: of the latencies.
            budget_ms: in simulated time; where the source measures, in real time too.
            seed: chooses where in a trace the drive begins.

        Raises:
            SpecError: the world ticks too seldom, or the budget is not a finite number above 0.
        """
        super().__init__(policy, observers, world_hz, budget_ms)
        check_rate(world_hz)
        self._budget_us = None if budget_ms is None else round(budget_ms * 1e3)
        self.budget_ms = math.inf if budget_ms is None else budget_ms
        self._source, self._seed, self._request = source, seed, 0
        self._waits_ms = budget_ms if source.kind == "measured" else None
        self._known_us: int | None = None
        self._taken_us: int | None = None
        self.applied = Trace()
        self._flight: InFlight[Actions] = InFlight(fallback_actions(policy.card.action, 1))

    @property
    def condition(self) -> str:
        return self._source.condition(self.applied)

    def figures(self) -> dict[str, Any]:
        """Kind, condition, budget and distribution, milliseconds, by name."""
        budget_ms = None if self._budget_us is None else self.budget_ms
        known = {"kind": self._source.kind, "condition": self.condition, "budget_ms": budget_ms}
        return {**known, "requests": len(self.applied.us), **self.applied.figures()}

    def reset(self) -> None:
        """As `Driver.reset`; what was under way is forgotten."""
        super().reset()
        self._request, self._flight = 0, InFlight(fallback_actions(self.policy.card.action, 1))

    def step(self, snapshot: Snapshot) -> carla.VehicleControl:
        """As `Driver.step`, for a tick in simulated time."""
        observation = self._observe(snapshot)
        now_us = round(snapshot.timestamp.elapsed_seconds * 1e6)
        self._flight.at(now_us + CLOCK_US)
        if self._is_due(snapshot):
            if self._flight.is_under_way:
                self._pass(observation)
            else:
                self._ask(observation, now_us)
        self.actions = self._flight.at(now_us + CLOCK_US)
        return carla.VehicleControl(*self.actions.vehicle_control())

    def _pass(self, observation: Observation | Missing) -> None:
        """A tick of the policy at which nobody asks: its frames count."""
        if self._episode is not None:
            with contextlib.suppress(SpecError):  # the frames before count for that tick
                self._episode.skip(None if isinstance(observation, Missing) else observation)

    def _ask(self, observation: Observation | Missing, now_us: int) -> None:
        if isinstance(observation, Missing) or not (self._episode is None or self._episode.is_due):
            self._flight.send(self._tick(observation), now_us)  # nobody is asked, so there is no latency
            return
        self._known_us = self._source.of(self._seed, self._request)
        self._request += 1
        if self._known_us is not None and is_late(self._known_us, self._budget_us):
            self._pass(observation)
            self.applied.add(self._seed, self._known_us)
            self._flight.send(self._late(), now_us + (self._budget_us or 0))
            return
        began, self._taken_us, late = time.perf_counter(), None, self.record.fallbacks["late"]
        actions = self._tick(observation)
        us = self._taken_us
        if us is None:  # no action: an error, or late
            us = self._since_us(began) if self._known_us is None else self._known_us
            if self._budget_us is not None and self.record.fallbacks["late"] > late:
                us = max(us, self._budget_us + 1)
        self.applied.add(self._seed, us)
        self._flight.send(actions, now_us + (us if self._budget_us is None else min(us, self._budget_us)))

    def _latency_ms(self, began: float) -> float:
        """The latency in simulated time of an answer in time, which is also kept for the landing."""
        us = self._known_us
        if us is None:
            us = self._since_us(began) if self._budget_us is None else min(self._since_us(began), self._budget_us)
        self._taken_us = us
        return us / 1e3

    @staticmethod
    def _since_us(began: float) -> int:
        return round((time.perf_counter() - began) * 1e6)


def check_rate(world_hz: float) -> None:
    """Raises SpecError for a world that ticks too seldom for a latency."""
    if world_hz < MIN_HZ - 1e-6:
        raise SpecError("world_hz", f"under a latency the world ticks at {MIN_HZ:g} Hz or more: --hz {MIN_HZ:g}")
