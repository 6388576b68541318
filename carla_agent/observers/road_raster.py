"""Where there is road, on a grid that is painted tile by tile as the car comes near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .open_drive import DRIVING
from .polygons import covered_pixels
from .road_map import RoadMap, surface_quads

Array = NDArray[np.float64]

CELL_M = 0.25
TILE_CELLS = 256
FINER = 4
"""A cell is road when one of its FINER × FINER parts is: the training environment, too, paints each cell that a lane
touches, so that the road is half a cell wider on either side than its edges, on average."""


class RoadRaster:
    """The driving lanes of a town on a grid of CELL_M cells.

    A tile is 64 m wide, takes 64 KiB and some milliseconds, and is painted when it is first asked for.
    """

    def __init__(self, road_map: RoadMap, origin: tuple[float, float] = (0.0, 0.0)) -> None:
        """Takes the driving lanes of that town.

        Args:
            road_map: of the town.
            origin: world point, metres, that is a corner of cells.
        """
        self._origin = np.array(origin)
        lanes = tuple(lane for lane in road_map.lanes if lane.kind == DRIVING)
        self._quads = (surface_quads(lanes, CELL_M / FINER / 2) - self._origin) / CELL_M
        self._low, self._high = self._quads.min(axis=1), self._quads.max(axis=1)
        self._tiles: dict[tuple[int, int], NDArray[np.bool_]] = {}
        self._block_of: tuple[int, ...] = ()
        self._block = np.zeros((0, 0), dtype=np.bool_)

    def is_road(self, points: Array) -> NDArray[np.bool_]:
        """Whether each of the world points (..., 2), in metres, lies on a driving lane; shape (...)."""
        cells = np.floor((points - self._origin) / CELL_M).astype(np.intp)
        flat = cells.reshape(-1, 2)
        (left, top), (right, bottom) = flat.min(axis=0) // TILE_CELLS, flat.max(axis=0) // TILE_CELLS
        if self._block_of != (left, top, right, bottom):
            rows = [[self._tile(x, y) for x in range(left, right + 1)] for y in range(top, bottom + 1)]
            self._block, self._block_of = np.block(rows), (left, top, right, bottom)
        return np.asarray(self._block[cells[..., 1] - top * TILE_CELLS, cells[..., 0] - left * TILE_CELLS])

    def _tile(self, x: int, y: int) -> NDArray[np.bool_]:
        if (x, y) not in self._tiles:
            self._tiles[x, y] = self._paint(np.array([x, y], dtype=np.float64) * TILE_CELLS)
        return self._tiles[x, y]

    def _paint(self, corner: Array) -> NDArray[np.bool_]:
        near = ((self._high > corner) & (self._low < corner + TILE_CELLS)).all(axis=1)
        side = TILE_CELLS * FINER
        fine = np.zeros(side * side, dtype=np.bool_)
        # The centre of the first fine cell is at its half; to `covered_pixels` it is at 0.
        covered, _ = covered_pixels((self._quads[near] - corner) * FINER - 0.5, side, side)
        fine[covered] = True
        rows = np.logical_or.reduce([fine.reshape(side, side)[part::FINER] for part in range(FINER)])
        painted: NDArray[np.bool_] = np.logical_or.reduce([rows[:, part::FINER] for part in range(FINER)])
        return painted
