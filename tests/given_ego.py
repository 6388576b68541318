"""What the tests of carla_agent share: ticks and cars that are given, not simulated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

from carla_agent.observers.ego import Ego
from carla_agent.observers.observer import Snapshot


def at_tick(frame: int) -> Snapshot:
    """A tick of a world at 20 Hz."""
    return SimpleNamespace(frame=frame, timestamp=SimpleNamespace(elapsed_seconds=frame / 20))


def standing_car() -> Ego:
    """A car that stands at the world's origin and looks along x."""
    nowhere = (0.0, 0.0, 0.0)
    return Ego(0, 0.0, nowhere, 0.0, 0.0, 0.0, nowhere, nowhere, nowhere, 0.0, 0.0, 0.0, 1, 30.0)


class GivenEgo:
    """A source that always reads the same car; `car` may be replaced between ticks."""

    unknown: Mapping[str, str] = MappingProxyType({})

    def __init__(self, car: Ego) -> None:
        self.car = car

    def read(self, snapshot: Snapshot) -> Ego:
        return self.car
