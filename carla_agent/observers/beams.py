"""Free distance along beams, as `examples/v0.1.0` was trained with: to the edge of the road, and to other actors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, ObservationSpec

from .boxes import Actors, Boxes, BoxReader
from .ego import EgoSource, vehicle_id
from .observer import Snapshot
from .road_map import RoadMap
from .road_raster import RoadRaster

Array = NDArray[np.float64]

BEAM_ANGLES_DEG = (-90.0, -55.0, -32.0, -17.0, -7.0, 0.0, 7.0, 17.0, 32.0, 55.0, 90.0, 180.0)
"""Clockwise from straight ahead. Source: training_export/racetrack/beams.py, as are the two below."""
BEAM_RANGE_M = 40.0
BEAM_STEP_M = 0.4
MAX_LENGTH_M = 20.0
"""No vehicle is longer; how far beyond the range an actor's centre may be while its box is in it."""


class Beams:
    """Makes one field, by default `sensors`: the free distance along each beam ÷ the range, in [0, 1].

    Beams start at the car's origin and are horizontal. One ends where the driving lanes do, found in steps on a grid
    of 0.25 m as in the training environment, or at the box of another actor, found exactly. On the same road the
    distances are those of training_export's `Racetrack.measure_beams`, up to a cell of that grid.
    """

    def __init__(
        self,
        ego: EgoSource,
        road: RoadMap | RoadRaster | Any,
        others: Actors | None = None,
        field: str = "sensors",
        angles_deg: tuple[float, ...] = BEAM_ANGLES_DEG,
        range_m: float = BEAM_RANGE_M,
        kinds: tuple[str, ...] = ("vehicle.", "walker."),
    ) -> None:
        """Reads the road, which takes up to some seconds for a large town that was not read before.

        Args:
            ego: the driven car.
            road: a `carla.Map`, or what was made of one.
            others: the world, or a function that returns the other actors; the driven car may be among them: it is
                recognised by its id, or, where `ego` has no `vehicle`, by being within 1 m. None: beams see the road
                alone.
            field: name of the field.
            angles_deg: of the beams, clockwise from straight ahead, degrees.
            range_m: how far they reach, metres.
            kinds: prefixes of the `type_id`s of actors that stop a beam.

        Raises:
            DrivingError: the map has no lane to drive on.
        """
        self._ego = ego
        road = road if isinstance(road, RoadMap | RoadRaster) else RoadMap.of(road)
        self._road = road if isinstance(road, RoadRaster) else RoadRaster(road)
        self._others = None if others is None else BoxReader(others, kinds, vehicle_id(ego))
        self._angles, self._range = np.deg2rad(angles_deg), range_m
        self._reaches = np.arange(BEAM_STEP_M, range_m + BEAM_STEP_M / 2, BEAM_STEP_M)
        self._field = field
        self._spec = ObservationSpec([ArraySpec(field, "float32", (len(angles_deg),), 0.0, 1.0)])

    @property
    def spec(self) -> ObservationSpec:
        """One float32 field with an element per beam, in [0, 1], unit "1"."""
        return self._spec

    def reset(self) -> None:
        """Nothing is kept from tick to tick."""

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]]:
        """The field at one tick."""
        ego = self._ego.read(snapshot)
        position, heading = np.array(ego.location[:2]), np.deg2rad(ego.yaw)
        free = self._to_edge(position, heading)
        if self._others is not None:
            boxes = self._others.read(ego, self._range + MAX_LENGTH_M)
            free = np.minimum(free, self._to_boxes(position, heading, boxes))
        return {self._field: np.clip(free / self._range, 0.0, 1.0).astype(np.float32)}

    def _to_edge(self, position: Array, heading: float) -> Array:
        angles = heading + self._angles
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        blocked = ~self._road.is_road(position + directions[:, None, :] * self._reaches[None, :, None])
        first = blocked.argmax(axis=1)
        return np.where(blocked.any(axis=1), self._reaches[first] - BEAM_STEP_M / 2, self._range)

    def _to_boxes(self, position: Array, heading: float, boxes: Boxes) -> Array:
        """Distance to the nearest box along every beam, shape (beams,); infinite where there is none.

        A beam meets a box where the slabs of its two axes overlap; one that begins inside a box does not meet it.
        """
        angles = heading + self._angles
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        sideways = np.stack([-boxes.forward[:, 1], boxes.forward[:, 0]], axis=1)
        axes = np.stack([boxes.forward, sideways], axis=1)
        start = np.einsum("nij,nj->ni", axes, position - boxes.centre)[:, None, :]
        along = np.einsum("nij,bj->nbi", axes, directions)
        along = np.where(np.abs(along) < 1e-9, 1e-9, along)
        ends = (np.array([-1.0, 1.0])[:, None, None, None] * boxes.half[:, None, :] - start) / along
        enter, leave = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
        met = np.where((enter <= leave) & (enter > 0), enter, np.inf)
        return np.asarray(np.min(met, axis=0, initial=np.inf))
