"""How far a car has come is found from the points near it, however long its route is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from carla_agent.observers.progress import Reached
from carla_agent.observers.route import Plan


class Watched(np.ndarray):
    """Points that know how many of them were read at once."""

    most = 0

    def __getitem__(self, key: Any) -> Any:
        found = np.asarray(self)[key]
        Watched.most = max(Watched.most, len(found))
        return found


def plan_of(points: np.ndarray) -> Plan:
    return Plan(points, np.full(len(points), 4, np.int64), np.zeros(len(points), np.bool_))


def test_a_long_route_is_not_measured_whole_at_each_tick():
    points = np.stack([np.arange(30_000.0), np.zeros(30_000)], axis=1).view(Watched)
    reached, plan = Reached(), plan_of(points)
    assert [reached.advance(plan, x, 0.0) for x in (0.0, 0.1, 19.6, 39.6)] == [7, 7, 27, 47]
    assert 0 < Watched.most <= 100


@pytest.mark.parametrize("step_m", [0.1, 0.4, 1.0, 30.0])
def test_points_up_to_50_m_ahead_count_however_dense_they_are(step_m: float):
    count = round(49.0 / step_m)
    there = np.stack([np.arange(count + 1) * step_m, np.zeros(count + 1)], axis=1)
    away = np.stack([np.full(100, 49.0), 10.0 + np.arange(100) * 10.0], axis=1)
    reached = Reached(reached_m=step_m / 4)
    assert reached.advance(plan_of(np.concatenate([there, away])), there[-1, 0], 0.0) == count
