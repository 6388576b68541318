"""A driver whose actions land later: one is under way, and the one before applies until it has landed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.latency.in_flight import InFlight, is_late
from carla_mlflow.latency.sources import LatencySource
from carla_mlflow.latency.trace import Trace
from training_export.racetrack.driving import Driver, Observation
from training_export.racetrack.fine import TICK_US

Control = NDArray[np.float32]


class Decides(Protocol):
    """What decides: a policy in this process, a server, or a simple driver."""

    def begin(self) -> None:
        """Begins an episode."""

    @property
    def is_due(self) -> bool:
        """Whether the next tick asks; else the action before holds."""

    def skip(self, observation: Observation) -> None:
        """A tick at which nobody asks."""

    def decide(self, observation: Observation, budget_ms: float | None) -> Control | None:
        """The control, shape (3,); None where it did not come within the budget, in real time."""


class Simple:
    """A driver that remembers nothing as one that decides, at every tick and at once."""

    is_due = True

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def begin(self) -> None: ...

    def skip(self, observation: Observation) -> None: ...

    def decide(self, observation: Observation, budget_ms: float | None) -> Control:
        return self._driver(observation)


@dataclass(frozen=True)
class Delay:
    """Under which latency is driven.

    Attributes:
        source: how long each answer is under way.
        budget_ms: after which the card's fallback applies; None for no limit.
        fallback: the card's, shape (3,); also what applies before the first action has landed.
    """

    source: LatencySource
    budget_ms: float | None
    fallback: Control

    @property
    def budget_us(self) -> int | None:
        return None if self.budget_ms is None else round(self.budget_ms * 1e3)


class DelayedDriver:
    """Drives `FineRacetrack`: called at each tick with what the car sees, and asked at each step what it does.

    Simulated time alone decides, so that the outcome is the same on every machine, except where the source measures.

    Attributes:
        applied: the latency of every request so far, also of those that were late.
        late: requests whose answer came after the budget.
    """

    def __init__(self, decides: Decides, delay: Delay) -> None:
        self._decides, self._delay = decides, delay
        self.applied, self.late = Trace(), 0
        self.begin_at(0)

    def begin_at(self, seed: int) -> None:
        """Begins the episode of that seed."""
        self._decides.begin()
        self._seed, self._tick, self._request = seed, 0, 0
        self._flight = InFlight(self._delay.fallback)

    def __call__(self, observation: Observation) -> Control:
        """One tick of the policy: asks, unless an answer is under way or an action holds; returns what applies."""
        now_us = self._tick * TICK_US
        self._tick += 1
        self.at(now_us)
        if self._flight.is_under_way or not self._decides.is_due:
            self._decides.skip(observation)
        else:
            self._ask(observation, now_us)
        return self.at(now_us)

    def at(self, now_us: int) -> Control:
        """What applies in the step that begins then, microseconds since the episode's beginning."""
        return self._flight.at(now_us)

    def _ask(self, observation: Observation, now_us: int) -> None:
        known = self._delay.source.of(self._seed, self._request)
        if known is None:
            control, us = self._measure(observation)
        elif is_late(known, self._delay.budget_us):
            self._decides.skip(observation)  # nobody waits for the answer, so it need not be computed
            control, us = None, known
        else:
            control, us = self._decides.decide(observation, None), known
        self._request += 1
        self.applied.add(self._seed, us)
        if control is not None:
            self._flight.send(control, now_us + us)
        else:
            self.late += 1
            self._flight.send(self._delay.fallback, now_us + (self._delay.budget_us or 0))

    def _measure(self, observation: Observation) -> tuple[Control | None, int]:
        """Control and microseconds; late in time is what the client took for late."""
        began = time.perf_counter_ns()
        control = self._decides.decide(observation, self._delay.budget_ms)
        us, budget_us = (time.perf_counter_ns() - began) // 1000, self._delay.budget_us
        if budget_us is None:
            return control, us
        return control, max(us, budget_us + 1) if control is None else min(us, budget_us)
