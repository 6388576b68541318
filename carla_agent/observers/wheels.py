"""CaRL's extra inputs for steering: where the front wheels stand, and how they lag behind the steer that was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import carla
import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, ObservationSpec

from .ego import EgoSource
from .observer import Snapshot

MAX_STEER_DEG = 60.0
"""Degrees that count as 1: CaRL's `max_avg_steer_angle`, about the mean of both front wheels at full steer."""

ERRORS_KEPT = 10
"""Decisions in the integral: those of one second at CaRL's 10 Hz."""


class VehicleSource(EgoSource, Protocol):
    """A source that reads a vehicle of the simulator: `EgoReader` is one."""

    @property
    def vehicle(self) -> Any:
        """The `carla.Vehicle`."""


class WheelControl:
    """One float32 field of shape (4,): wheel angle, its error, and the error's derivative and integral.

    The formulas are those of autonomousvision/CaRL, `team_code_roach/eval_agent.py` (`use_extra_control_inputs`): the
    angle is the mean of both front wheels / 60°; the error is the latest steer - the angle at the decision before; the
    derivative is the difference of the latest two errors, the integral the mean of the latest ten, zeros at first.

    Reading the two angles costs two calls to the simulator per decision.
    """

    def __init__(self, ego: VehicleSource, field: str = "wheels", ticks: int = 2) -> None:
        """Asks the reader's vehicle.

        Args:
            ego: reads the car; an agent in the track SENSORS has no such vehicle.
            field: the card's field, where this is one of its own.
            ticks: of the world between two decisions: 2 at CaRL's 10 Hz in a world at 20 Hz.
        """
        self._ego, self._field, self._ticks = ego, field, ticks
        self._spec = ObservationSpec([ArraySpec(field, "float32", (4,))])
        self.reset()

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route: no error was seen, and the wheels stood straight."""
        self._errors: deque[float] = deque([0.0] * ERRORS_KEPT, ERRORS_KEPT)
        self._angle = 0.0
        self._seen = 0
        self._latest = np.zeros(4, np.float32)

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]]:
        """The field; between two decisions it is that of the decision before."""
        if self._seen % self._ticks == 0:
            wheels, ask = carla.VehicleWheelLocation, self._ego.vehicle.get_wheel_steer_angle
            angle = 0.5 * (ask(wheels.FL_Wheel) + ask(wheels.FR_Wheel)) / MAX_STEER_DEG
            self._errors.append(self._ego.read(snapshot).steer - self._angle)
            change = self._errors[-1] - self._errors[-2]
            mean = sum(self._errors) / len(self._errors)
            self._latest = np.array([angle, self._errors[-1], change, mean], dtype=np.float32)
            self._angle = angle
        self._seen += 1
        return {self._field: self._latest}
