"""Which point of its route a car has come to, by the rules that policies were trained with."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .route import Plan

REACHED_M, AHEAD_M = 7.5, 50.0
"""autonomousvision/carla_garage, `team_code/config.py`: route_planner_min_distance and route_planner_max_distance."""


class Progress(Protocol):
    """Follows one car along one route."""

    def reset(self) -> None:
        """Begins a route at its first point."""

    def advance(self, plan: Plan, x: float, y: float) -> int:
        """The index of the point that the car has come to, when it is at that place; it never decreases."""


class Reached:
    """TransFuser's rule, for plans whose points lie far apart, as those that agents get from a leaderboard.

    Of the points up to `ahead_m` along the route, those within `reached_m` of the car count, and the one of these that
    is farthest from the car is taken. The last point is never come to: it stays the target. Source:
    autonomousvision/carla_garage, `team_code/nav_planner.py` (`RoutePlanner.run_step`).
    """

    def __init__(self, reached_m: float = REACHED_M, ahead_m: float = AHEAD_M) -> None:
        self._reached_m, self._ahead_m = reached_m, ahead_m
        self._at = 0

    def reset(self) -> None:
        """Begins a route at its first point."""
        self._at = 0

    def advance(self, plan: Plan, x: float, y: float) -> int:
        """The index of the point that the car has come to."""
        points = plan.points[self._at :]
        if len(points) > 2:
            steps = np.hypot(*(points[1:] - points[:-1]).T)
            behind = np.concatenate([[0.0], np.cumsum(steps)[:-1]])  # along the route, up to the point before each
            distances = np.hypot(*(points[1:] - (x, y)).T)
            counts = (distances <= self._reached_m) & (behind <= self._ahead_m)
            if counts.any():
                farthest = 1 + int(np.argmax(np.where(counts, distances, -1.0)))
                self._at += min(farthest, len(points) - 2)
        return self._at


class Passed:
    """Roach's and CaRL's rule, for plans with a point every metre or so.

    A point is passed when the car is ahead of it, seen along the route there; at most WINDOW points at a time. Source:
    autonomousvision/CaRL, `team_code_roach/nav_planner.py` (`RoutePlanner.run_step`), which takes the lane's direction
    at a point where this takes that of the route.
    """

    WINDOW = 2

    def __init__(self) -> None:
        self._at = 0

    def reset(self) -> None:
        """Begins a route at its first point."""
        self._at = 0

    def advance(self, plan: Plan, x: float, y: float) -> int:
        """The index of the last point that the car has passed."""
        points, last = plan.points, len(plan.points) - 1
        for index in range(self._at, min(self._at + self.WINDOW, last) + 1):
            before, after = (index, index + 1) if index < last else (max(index - 1, 0), index)
            along = points[after] - points[before]
            if along @ ((x, y) - points[index]) > 0:
                self._at = index
        return self._at
