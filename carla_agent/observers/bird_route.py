"""The part of the route that a bird's eye view draws, and the carriageways that the route takes."""

from __future__ import annotations

from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from .bird_layouts import Band, BirdLayout, Lights
from .bird_shapes import Array
from .ego import Ego
from .progress import Passed
from .route import Plan, Route
from .stop_lines import carriageway_of

BEHIND_M = 20.0
"""Lights that the car has passed are shown this far. Source: autonomousvision/CaRL, bev_observation.py."""


class RouteAhead:
    """Follows one car along its route, by the rule of Roach and CaRL (`Passed`)."""

    def __init__(self, route: Route, carla_map: Any, layout: BirdLayout) -> None:
        """Takes the route that is driven; lanes are looked up on the `carla.Map` only where the layout needs them."""
        self._route, self._map, self._progress = route, carla_map, Passed()
        drawings = [drawing for layer in layout.layers for drawing in layer.drawings]
        bands = [drawing for drawing in drawings if isinstance(drawing, Band)]
        self._ahead_m = max((band.length_m for band in bands), default=0.0)
        self._needs_lanes = any(band.in_junctions for band in bands) or any(
            isinstance(drawing, Lights) and drawing.of_route for drawing in drawings
        )
        self._plan: Plan | None = None
        self._at = 0
        self._along: Array = np.empty(0)
        self._in_junction: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        self._carriageways: list[tuple[int, int]] = []
        self._taken: set[tuple[int, int]] = set()

    def reset(self) -> None:
        """Begins a route."""
        self._plan = None
        self._progress.reset()

    def advance(self, ego: Ego) -> bool:
        """Follows the car by one tick; returns whether a route is known."""
        plan = self._route.plan
        if plan is None:
            return False
        if plan is not self._plan:
            self._begin(plan, ego.location[2])
        self._at = self._progress.advance(plan, *ego.location[:2])
        if self._needs_lanes:
            low, high = self._along[self._at] - BEHIND_M, self._along[self._at] + self._ahead_m
            first, end = np.searchsorted(self._along, [low, high])
            self._taken = set(self._carriageways[first:end])
        return True

    def passes(self, carriageway: tuple[int, int]) -> bool:
        """Whether the route takes it, from a little behind the car to as far as the band is drawn."""
        return carriageway in self._taken

    def ahead(self, band: Band) -> tuple[Array, NDArray[np.bool_]]:
        """Points from where the car is, (N, 2), and whether each is drawn, (N,)."""
        assert self._plan is not None  # `advance` returned True
        end = int(np.searchsorted(self._along, self._along[self._at] + band.length_m, side="right"))
        points = self._plan.points[self._at : end]
        is_drawn = self._in_junction[self._at : end] if band.in_junctions else np.ones(len(points), dtype=np.bool_)
        return points, is_drawn

    def _begin(self, plan: Plan, height: float) -> None:
        self._plan = plan
        steps = np.hypot(*np.diff(plan.points, axis=0).T)
        self._along = np.concatenate([[0.0], np.cumsum(steps)])
        if self._needs_lanes:
            # A plan has no heights; the car's tells levels apart near the start, where a route begins.
            places = [carla.Location(float(x), float(y), height) for x, y in plan.points]
            waypoints = [self._map.get_waypoint(place) for place in places]
            self._carriageways = [carriageway_of(waypoint) for waypoint in waypoints]
            self._in_junction = np.array([waypoint.is_junction for waypoint in waypoints], dtype=np.bool_)
