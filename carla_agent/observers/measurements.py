"""Numbers about the car as fields of an observation: one named term as a scalar, or several as a vector.

Sources of the presets: zhejz/carla-roach, `agents/rl_birdview/utils/rl_birdview_wrapper.py` and
`carla_gym/core/obs_manager/actor_state/`; autonomousvision/CaRL, `team_code_roach/eval_agent.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, DrivingError, ObservationSpec
from carla_mlflow.contract.array_bounds import Bound

from .ego import Ego, EgoSource
from .observer import Observer, Snapshot

Term = Callable[[Ego], float]


def _level_velocity(ego: Ego) -> tuple[float, float]:
    """The horizontal velocity, turned by the yaw only: forward and right, m/s."""
    yaw = math.radians(ego.yaw)
    (x, y, _), cos, sin = ego.velocity, math.cos(yaw), math.sin(yaw)
    return cos * x + sin * y, cos * y - sin * x


TERMS: Mapping[str, Term] = {
    "speed": lambda ego: ego.speed,
    "speed_xy": lambda ego: math.hypot(ego.velocity[0], ego.velocity[1]),
    "forward_speed": lambda ego: ego.forward_speed,
    "velocity_x": lambda ego: ego.to_car(ego.velocity)[0],
    "velocity_y": lambda ego: ego.to_car(ego.velocity)[1],
    "level_velocity_x": lambda ego: _level_velocity(ego)[0],
    "level_velocity_y": lambda ego: _level_velocity(ego)[1],
    "acceleration_x": lambda ego: ego.to_car(ego.acceleration)[0],
    "acceleration_y": lambda ego: ego.to_car(ego.acceleration)[1],
    "yaw_rate": lambda ego: ego.angular_velocity[2],
    "throttle": lambda ego: ego.throttle,
    "steer": lambda ego: ego.steer,
    "brake": lambda ego: ego.brake,
    "gear": lambda ego: float(ego.gear),
    "gear/5": lambda ego: ego.gear / 5.0,
    "speed_limit": lambda ego: ego.speed_limit / 3.6,
}
"""What a measurement can be.

- `speed`: length of the velocity; `speed_xy`: of its horizontal part; `forward_speed`: along the car's nose (this is
  the leaderboards' speedometer); m/s.
- `velocity_x`, `velocity_y`: forward and right in the car's own axes, turned by pitch, yaw and roll (Roach); m/s.
- `level_velocity_x`, `level_velocity_y`: forward and right in the horizontal plane, turned by the yaw only (CaRL); m/s.
- `acceleration_x`, `acceleration_y`: in the car's own axes, without gravity; m/s².
- `yaw_rate`: about the world's z axis, degrees/s, positive clockwise seen from above.
- `throttle`, `steer`, `brake`, `gear`: of the control that acted in the latest tick; `gear/5`: Roach's scale.
- `speed_limit`: of the road, m/s (CARLA's km/h / 3.6); 0 where none is known.
"""


class Measurements:
    """One float32 field of named terms, clipped to its bounds."""

    def __init__(
        self,
        ego: EgoSource,
        field: str,
        terms: str | Sequence[str],
        low: Bound = None,
        high: Bound = None,
        unit: str = "1",
        more: Sequence[Observer] = (),
    ) -> None:
        """Names the field and what it holds.

        Args:
            ego: reads the car.
            field: the card's field.
            terms: a name in `TERMS` for a scalar field, shape (); names for a vector, in its order.
            low: smallest value, one for all or one per element; values are clipped to it. None: no bound.
            high: largest value, likewise.
            unit: as the card writes it.
            more: observers of one scalar or vector each, which follow the terms in the vector.

        Raises:
            DrivingError: no such term, or one that `ego` does not know.
        """
        self._ego, self._field, self._more = ego, field, tuple(more)
        names = [terms] if isinstance(terms, str) else list(terms)
        self._terms = [_term(name, ego, field) for name in names]
        self._is_scalar = isinstance(terms, str) and not more
        width = len(names) + sum(math.prod(spec.shape) for part in self._more for spec in part.spec)
        shape = () if self._is_scalar else (width,)
        spec = ArraySpec(field, "float32", shape, low, high, unit)
        self._low, self._high = spec.lows, spec.highs
        self._spec = ObservationSpec([spec])

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route."""
        for part in self._more:
            part.reset()

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The field at that tick; None while one of `more` has no data."""
        ego = self._ego.read(snapshot)
        values = [term(ego) for term in self._terms]
        for part in self._more:
            fields = part.observe(snapshot)
            if fields is None:
                return None
            for array in fields.values():
                values.extend(np.ravel(array).tolist())
        vector = np.array(values[0] if self._is_scalar else values, dtype=np.float32)
        return {self._field: np.clip(vector, self._low, self._high)}


def _term(name: str, ego: EgoSource, field: str) -> Term:
    if name not in TERMS:
        raise DrivingError(f"{field}: no measurement is called {name!r}; there are {', '.join(TERMS)}")
    if name in ego.unknown:
        raise DrivingError(f"{field}: {name} can't be known here: {ego.unknown[name]}")
    return TERMS[name]


def racetrack_measurements(ego: EgoSource) -> tuple[Measurements, Measurements]:
    """`speed` and `steering` as policies of `training_export/racetrack/env.py` observe them (examples/v0.1.0).

    `speed` is float32 () in [0, 60] m/s, `steering` float32 () in [-1, 1]: the steer of the latest action, positive to
    the right in both worlds.
    """
    speed = Measurements(ego, "speed", "speed_xy", 0.0, 60.0, "m/s")
    return speed, Measurements(ego, "steering", "steer", -1.0, 1.0)


ROACH_STATE = ("throttle", "steer", "brake", "gear/5", "velocity_x", "velocity_y")
"""Roach's vector for `input_states: [control, vel_xy]`, which its `config/agent/ppo.yaml` says."""


def roach_state(ego: EgoSource, field: str = "state", low: Bound = None, high: Bound = None) -> Measurements:
    """Roach's `state`: float32 (6,), the terms of `ROACH_STATE`."""
    return Measurements(ego, field, ROACH_STATE, low, high)


CARL_MEASUREMENTS = (
    "steer", "throttle", "brake", "gear", "level_velocity_x", "level_velocity_y", "forward_speed", "speed_limit",
)  # fmt: skip
"""CaRL's vector without its options."""


def carl_measurements(
    ego: EgoSource,
    field: str = "measurements",
    more: Sequence[Observer] = (),
    low: Bound = None,
    high: Bound = None,
) -> Measurements:
    """CaRL's `measurements`: float32 (8,), the terms of `CARL_MEASUREMENTS`.

    One difference: where CARLA knows no speed limit, CaRL puts its configuration's `rr_maximum_speed`, this puts 0.

    Args:
        ego: reads the car.
        field: the card's field.
        more: CaRL's options in its order: a `WheelControl` (`use_extra_control_inputs`, 4 more elements), then a
            `TargetPoint` (`use_target_point`, 2 more).
        low: as for `Measurements`.
        high: likewise.
    """
    return Measurements(ego, field, CARL_MEASUREMENTS, low, high, more=more)
