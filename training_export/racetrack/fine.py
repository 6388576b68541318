"""The racetrack in steps of 10 ms, in which an action may begin to apply between two ticks of the policy.

It is an environment of its own, since a car that is simulated in finer steps drives elsewhere: 10 steps a tick, where
the racetrack has 2. Ticks, observations, reward and ends are the racetrack's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training_export.racetrack.env import RATE_HZ, Racetrack, env_version

FINE_HZ = 100
STEPS = FINE_HZ // RATE_HZ
STEP_US, TICK_US = 1_000_000 // FINE_HZ, 1_000_000 // RATE_HZ

FINE_REVISION = 1
"""The revision of what this file adds to the racetrack; raise it when you change what an episode here is."""

ControlAt = Callable[[int], NDArray[np.float32]]
"""Microseconds of simulated time since the episode's beginning → throttle, brake, steer, shape (3,)."""


def fine_version() -> str:
    """As `env_version`, of this environment."""
    return f"{env_version()}, in steps of {1000 // FINE_HZ} ms revision {FINE_REVISION}"


class FineRacetrack(Racetrack):
    """The racetrack, which asks before every step of the simulation what the car does."""

    def __init__(
        self, control_at: ControlAt, traffic: int = 0, duration_s: float = 30.0, render_mode: str | None = None
    ) -> None:
        """Takes what gives the control of each step; the rest as `Racetrack`."""
        super().__init__(traffic, duration_s, render_mode)
        self.config["simulation_frequency"] = FINE_HZ
        self._control_at = control_at

    def _simulate(self, action: NDArray[np.float64] | None = None) -> None:
        """One tick; `action` is what applies at its beginning, and has been taken into account by `step`."""
        changed = abs(self._steer_change)
        for _ in range(STEPS):
            throttle, brake, steer = self._control_at(self.steps * STEP_US)
            # In each step, as the brake of a car that has stopped is less in the model, and must not stay so.
            self.action_type.act(np.array([throttle - brake, steer], dtype=np.float64))
            changed += abs(float(steer) - self.last_steer)
            self.last_steer = float(steer)
            self.road.act()
            self.road.step(1 / FINE_HZ)
            self.steps += 1
        self._steer_change = changed
