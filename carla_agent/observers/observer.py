"""The interface of an observer, and the moment at which it observes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from carla_mlflow import ObservationSpec


class Timestamp(Protocol):
    """The time of a tick: `carla.Timestamp` is one."""

    @property
    def elapsed_seconds(self) -> float:
        """Simulated seconds since the world's episode began."""


class Snapshot(Protocol):
    """One tick of the world: `carla.WorldSnapshot` is one."""

    @property
    def frame(self) -> int:
        """The number of the tick; it grows by one with each."""

    @property
    def timestamp(self) -> Timestamp:
        """When the tick is."""


class Observer(Protocol):
    """Makes one or more fields of an observation."""

    @property
    def spec(self) -> ObservationSpec:
        """Names, dtypes, shapes and bounds of the fields that it makes; known before the first tick."""

    def reset(self) -> None:
        """Begins a route: what earlier ticks left is forgotten."""

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """Makes the fields at one tick.

        The driver calls it at every tick, also at those at which the policy does not decide, so that an observer can
        keep a history.

        Args:
            snapshot: of the tick that has just ended.

        Returns:
            Field → array of the spec's shape and dtype, without a batch axis; None while there is no data yet.
        """
