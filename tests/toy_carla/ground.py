"""A town's ground as a picture from above, painted once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .roads import Lane, Road
from .towns import Town

CELL_M = 0.1
SAMPLE_M = 0.5
MARK_M = 0.2
DASH_M = 3.0
GRASS, ASPHALT, MARK = (86, 125, 70), (70, 70, 74), (225, 225, 225)
"""Red, green, blue."""


@dataclass(frozen=True)
class Ground:
    """Colours by place.

    Attributes:
        colors: uint8 (rows along y, columns along x, 3): red, green, blue.
        origin: x and y of the first cell's corner, metres.
    """

    colors: NDArray[np.uint8]
    origin: tuple[float, float]

    def at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The colour at each point; beyond the picture the ground is all grass, as its border is."""
        rows, columns = self.colors.shape[:2]
        column = np.clip((x - np.float32(self.origin[0])) * np.float32(1 / CELL_M), 0, columns - 1).astype(np.int32)
        row = np.clip((y - np.float32(self.origin[1])) * np.float32(1 / CELL_M), 0, rows - 1).astype(np.int32)
        return np.asarray(self.colors.reshape(-1, 3)[row * columns + column])


def paint(town: Town) -> Ground:
    """Paints asphalt and lane marks on grass."""
    edges = [_line(road, t) for road in town.roads for lane in road.lanes for t in road.edges(lane)]
    points = np.concatenate([np.asarray(line) for line in edges])
    origin, size = points.min(axis=0) - 5.0, np.ptp(points, axis=0) + 10.0
    columns, rows = np.ceil(size / CELL_M).astype(int)
    picture = Image.new("RGB", (int(columns), int(rows)), GRASS)
    draw = ImageDraw.Draw(picture)

    def cells(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((x - origin[0]) / CELL_M, (y - origin[1]) / CELL_M) for x, y in line]

    for road in town.roads:
        for lane in road.lanes:
            right, left = road.edges(lane)
            draw.polygon(cells(_line(road, right)) + cells(_line(road, left))[::-1], fill=ASPHALT)
    for road in town.roads:
        for kind, t in [(road.center_mark, 0.0), *((lane.mark, _outer(road, lane)) for lane in road.lanes)]:
            for dash in _dashes(_line(road, t), kind):
                draw.line(cells(dash), fill=MARK, width=max(round(MARK_M / CELL_M), 1))
    return Ground(np.asarray(picture), (float(origin[0]), float(origin[1])))


def _outer(road: Road, lane: Lane) -> float:
    return max(road.edges(lane), key=abs)


def _line(road: Road, t: float) -> list[tuple[float, float]]:
    """Points of a line beside the reference line, in CARLA's axes."""
    count = max(math.ceil(road.length / SAMPLE_M), 1)
    places = [road.at(number * road.length / count, t) for number in range(count + 1)]
    return [(x, -y) for x, y, _ in places]


def _dashes(line: list[tuple[float, float]], kind: str) -> list[list[tuple[float, float]]]:
    if kind == "none":
        return []
    if kind == "solid":
        return [line]
    step = round(DASH_M / SAMPLE_M)
    return [line[start : start + step + 1] for start in range(0, len(line) - 1, 2 * step)]
