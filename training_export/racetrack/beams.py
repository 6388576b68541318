"""Distances along beams: to the edge of the road, on a raster of the track made once, and to other cars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highway_env.road.road import RoadNetwork
from highway_env.vehicle.kinematics import Vehicle
from numpy.typing import NDArray

BEAM_ANGLES_DEG = (-90.0, -55.0, -32.0, -17.0, -7.0, 0.0, 7.0, 17.0, 32.0, 55.0, 90.0, 180.0)
"""Clockwise from straight ahead, like steering: denser ahead, one to each side, one to the rear."""
BEAM_RANGE_M = 40.0
BEAM_STEP_M = 0.4
CELL_M = 0.25

Array = NDArray[np.float64]

_ANGLES = np.deg2rad(BEAM_ANGLES_DEG)
_REACHES = np.arange(BEAM_STEP_M, BEAM_RANGE_M + BEAM_STEP_M / 2, BEAM_STEP_M)


@dataclass(frozen=True)
class TrackRaster:
    """Where there is road: a grid of CELL_M cells with its world origin in metres."""

    road: NDArray[np.bool_]
    origin: Array

    def is_road(self, points: Array) -> NDArray[np.bool_]:
        """Whether each of the world points (..., 2), in metres, lies on the road; shape (...)."""
        cells = np.floor((points - self.origin) / CELL_M).astype(np.intp)
        x = np.clip(cells[..., 0], 0, self.road.shape[0] - 1)
        y = np.clip(cells[..., 1], 0, self.road.shape[1] - 1)
        return np.asarray(self.road[x, y])


def rasterise(network: RoadNetwork) -> TrackRaster:
    """Paints every lane of a road network into a grid, with an empty border all around."""
    step = CELL_M * 0.4  # finer than a cell, also on the outside of a bend, so that no cell of a lane is missed
    points = []
    for lane in network.lanes_list():
        half = lane.width_at(0) / 2
        for along in np.arange(0.0, lane.length + step, step):
            across = np.linspace(-half, half, int(2 * half / step) + 2)
            edges = np.array([lane.position(along, -half), lane.position(along, half)])
            points.append(edges[0] + (across[:, None] + half) / (2 * half) * (edges[1] - edges[0]))
    painted = np.concatenate(points)
    origin = painted.min(axis=0) - 2 * CELL_M
    cells = np.floor((painted - origin) / CELL_M).astype(np.intp)
    road = np.zeros(cells.max(axis=0) + 3, dtype=np.bool_)
    road[cells[:, 0], cells[:, 1]] = True
    return TrackRaster(road, origin)


def road_beams(raster: TrackRaster, position: Array, heading: float) -> Array:
    """Free distance to the road's edge along every beam, in metres, shape (12,)."""
    angles = heading + _ANGLES
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = position + directions[:, None, :] * _REACHES[None, :, None]
    blocked = ~raster.is_road(points)
    first = blocked.argmax(axis=1)
    return np.where(blocked.any(axis=1), _REACHES[first] - BEAM_STEP_M / 2, BEAM_RANGE_M)


def car_beams(position: Array, heading: float, others: list[Vehicle]) -> Array:
    """Free distance to the nearest other car along every beam, in metres, shape (12,); infinite when free.

    Each car is a box; a beam meets it where the slabs of its two axes overlap.
    """
    distance = np.full(len(_ANGLES), np.inf)
    for other in others:
        if np.hypot(*(other.position - position)) > BEAM_RANGE_M + other.LENGTH:
            continue
        cos, sin = np.cos(other.heading), np.sin(other.heading)
        offset = position - other.position
        start = np.array([offset @ (cos, sin), offset @ (-sin, cos)])
        relative = heading + _ANGLES - other.heading
        direction = np.stack([np.cos(relative), np.sin(relative)])
        direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
        half = np.array([[other.LENGTH / 2], [other.WIDTH / 2]])
        ends = (np.stack([-half, half]) - start[:, None]) / direction
        enter, leave = ends.min(axis=0).max(axis=0), ends.max(axis=0).min(axis=0)
        distance = np.where((enter <= leave) & (enter > 0), np.minimum(distance, enter), distance)
    return distance
