"""Where to go, as policies observe it: the command at this point of the route, and the next target point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, DrivingError, ObservationSpec
from carla_mlflow.contract.array_bounds import Bound

from .ego import EgoSource
from .observer import Snapshot
from .progress import Passed, Progress, Reached
from .route import Plan, RoadOption, Route

COMMANDS = 6
"""LEFT to CHANGELANERIGHT."""

Encoding = Literal["one_hot", "1-6", "0-5"]


class Command:
    """The road option as one field.

    `one_hot`: shape (6,), 0 or 1; `1-6` and `0-5`: shape (), whole numbers; all of `dtype`.

    The elements of `one_hot` are LEFT, RIGHT, STRAIGHT, LANEFOLLOW, CHANGELANELEFT, CHANGELANERIGHT (carla_garage's
    `command_to_one_hot`, carla-roach's `cilrs_wrapper.py`); `1-6` is the option's number in carla and the leaderboards,
    `0-5` one less. VOID and whatever else has no place among them is LANEFOLLOW, as in both.
    """

    def __init__(
        self,
        route: Route,
        ego: EgoSource,
        field: str = "command",
        encoding: Encoding = "one_hot",
        dtype: Literal["float32", "uint8"] = "float32",
        of: Literal["reached", "target"] = "reached",
        progress: Progress | None = None,
    ) -> None:
        """Names the field and its form.

        Args:
            route: whose plan is followed.
            ego: tells where the car is.
            field: the card's field.
            encoding: see the class.
            dtype: of the field.
            of: the command of the point that the car has come to (carla_garage, which delays its `far_command` by one
                point; carla-roach's `navigation/gnss.py`), or of the next one (Bench2Drive's `next_command`).
            progress: the rule by which points are reached; None: `Reached()`.

        Raises:
            DrivingError: no such encoding.
        """
        low, high, shape = {"one_hot": (0, 1, (COMMANDS,)), "1-6": (1, 6, ()), "0-5": (0, 5, ())}.get(
            encoding, (None, None, ())
        )
        if low is None:
            raise DrivingError(f"{field}: encoding {encoding!r}; expected one_hot, 1-6 or 0-5")
        self._route, self._ego, self._field, self._first = route, ego, field, low
        self._ahead = int(of == "target")
        self._progress = progress or Reached()
        self._spec = ObservationSpec([ArraySpec(field, dtype, shape, low, high)])

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route."""
        self._progress.reset()

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The command at that tick; None before a route is known."""
        plan = self._route.plan
        if plan is None:
            return None
        x, y, _ = self._ego.read(snapshot).location
        at = self._progress.advance(plan, x, y) + self._ahead
        option = int(plan.options[min(at, len(plan.options) - 1)])
        if not 1 <= option <= COMMANDS:
            option = RoadOption.LANEFOLLOW
        (spec,) = self._spec
        if spec.shape:
            return {self._field: np.eye(COMMANDS, dtype=spec.dtype)[option - 1]}
        return {self._field: np.array(option - 1 + self._first, dtype=spec.dtype)}


class TargetPoint:
    """The next target of the route as one float32 field (2,): metres ahead of the car, and metres to its right.

    The axes are turned by the yaw only (`inverse_conversion_2d` in carla_garage and CaRL).
    """

    def __init__(
        self,
        route: Route,
        ego: EgoSource,
        field: str = "target_point",
        rule: Literal["transfuser", "carl"] = "transfuser",
        skip: int = 0,
        low: Bound = None,
        high: Bound = None,
        progress: Progress | None = None,
    ) -> None:
        """Names the field and the rule.

        Args:
            route: whose plan is followed.
            ego: tells where the car is.
            field: the card's field.
            rule: `transfuser`: the point after the one that is reached (carla_garage, `team_code/sensor_agent.py`).
                `carl`: the point passed last where that lies in a junction, else the route's end (CaRL,
                `birds_eye_view/bev_observation.py` with `use_target_point`); the plan must know its junctions.
            skip: points beyond it, with `transfuser` only: 1 is carla_garage's `target_point_next`.
            low: smallest value, metres; values are clipped. None: no bound.
            high: largest value, likewise.
            progress: the rule by which points are reached; None: that of `rule`.

        Raises:
            DrivingError: `skip` with `carl`.
        """
        if rule == "carl" and skip:
            raise DrivingError(f"{field}: skip {skip} is for the rule transfuser only; leave it out with carl")
        self._route, self._ego, self._field = route, ego, field
        self._is_carl, self._ahead = rule == "carl", 1 + skip
        self._progress = progress or (Passed() if self._is_carl else Reached())
        self._spec = ObservationSpec([ArraySpec(field, "float32", (2,), low, high, "m")])

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route."""
        self._progress.reset()

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The target at that tick; None before a route is known."""
        plan = self._route.plan
        if plan is None:
            return None
        ego = self._ego.read(snapshot)
        x, y, _ = ego.location
        east, south = plan.points[self._target(plan, self._progress.advance(plan, x, y))] - (x, y)
        cos, sin = math.cos(math.radians(ego.yaw)), math.sin(math.radians(ego.yaw))
        point = np.array([cos * east + sin * south, cos * south - sin * east], np.float32)
        (spec,) = self._spec
        return {self._field: np.clip(point, spec.lows, spec.highs)}

    def _target(self, plan: Plan, at: int) -> int:
        last = len(plan.points) - 1
        if not self._is_carl:
            return min(at + self._ahead, last)
        return at if plan.in_junction[at] else last
