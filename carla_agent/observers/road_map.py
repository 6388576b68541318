"""The lanes of an OpenDRIVE map and their marks as arrays, read from a `carla.Map` once per town."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.errors import DrivingError

from .open_drive import DRIVING, LaneSection, lane_sections

Array = NDArray[np.float64]

SAMPLE_M = 0.5
"""Distance of two samples along a lane. A bend of 5 m radius leaves its chord by 6 mm in between."""
FLATNESS_M = 0.002
"""Samples are left out where a straight line misses them by no more than this."""
MAX_PIECE = 64
"""Samples that one straight piece of a lane spans at most, so that pieces can be chosen by where they are."""
DOUBLE_MARK_M = 0.5
"""Distance of the two lines of a double mark. Source: carla-roach, carla_gym/utils/birdview_map.py (2 × margin)."""

_DOUBLE = {
    "SolidBroken": ("broken", "solid"),
    "BrokenSolid": ("solid", "broken"),
    "BrokenBroken": ("broken", "broken"),
    "SolidSolid": ("solid", "solid"),
}
"""CARLA's double marks → the line at the lane's edge, and the one beyond it. Source as for DOUBLE_MARK_M."""


@dataclass(frozen=True)
class Mark:
    """One line along the edge of a lane.

    Attributes:
        style: "solid", "broken", "none" where OpenDRIVE says that there is no paint, or "other" (a kerb, grass …).
        colour: as `carla.LaneMarkingColor` spells it, such as "White".
        points: along its middle, in the lane's driving direction, (N, 2), metres.
        across: unit vectors to the lane's right, (N, 2).
    """

    style: str
    colour: str
    points: Array
    across: Array


@dataclass(frozen=True)
class Lane:
    """One lane along one section of a road, in its driving direction.

    Attributes:
        kind: its type in OpenDRIVE: "driving", "shoulder" or "parking".
        in_junction: whether it crosses a junction.
        left: its left edge, (N, 2), metres in the world.
        right: its right edge, likewise, sample by sample beside `left`.
        marks: the lines at its edges.
    """

    kind: str
    in_junction: bool
    left: Array
    right: Array
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class RoadMap:
    """All lanes of a town, in CARLA's world: x forward (or east), y right (or south), metres.

    What is at another level, above or below, is part of the same plane: as in Roach's and CaRL's rasters, a bridge
    covers what is under it.

    Attributes:
        digest: sha256 of the OpenDRIVE text, in hexadecimal.
        lanes: driving lanes, shoulders and parking lanes, junctions included.
    """

    digest: str
    lanes: tuple[Lane, ...]

    @staticmethod
    def of(carla_map: Any) -> RoadMap:
        """Reads a `carla.Map`, such as `world.get_map()`; the same town again costs nothing but its text's hash.

        Raises:
            DrivingError: the map has no lane to drive on.
        """
        xodr = carla_map.to_opendrive()
        digest = hashlib.sha256(xodr.encode()).hexdigest()
        if digest not in _READ:
            _READ[digest] = _read(carla_map, xodr, digest)
        return _READ[digest]


_READ: dict[str, RoadMap] = {}


def _read(carla_map: Any, xodr: str, digest: str) -> RoadMap:
    lanes = tuple(lane for section in lane_sections(xodr) for lane in _read_lane(carla_map, section))
    if not any(lane.kind == DRIVING for lane in lanes):
        raise DrivingError(f"the map {carla_map.name} has no driving lane: load a town, or another OpenDRIVE file")
    return RoadMap(digest, lanes)


def _read_lane(carla_map: Any, section: LaneSection) -> Iterator[Lane]:
    # CARLA looks s up in float32 and knows no waypoint at the very end of a road.
    last = np.nextafter(np.float32(section.end), np.float32(0))
    places = np.linspace(section.start, last, max(2, int(np.ceil((section.end - section.start) / SAMPLE_M)) + 1))
    waypoints = [carla_map.get_waypoint_xodr(section.road, section.lane, float(s)) for s in places]
    waypoints = [waypoint for waypoint in waypoints if waypoint is not None]
    if len(waypoints) < 2:
        return
    if section.lane > 0:  # drives against the reference line
        waypoints.reverse()
    transforms = [waypoint.transform for waypoint in waypoints]
    centre = np.array([(t.location.x, t.location.y) for t in transforms])
    yaw = np.radians([t.rotation.yaw for t in transforms])
    across = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    half = np.array([[waypoint.lane_width / 2] for waypoint in waypoints])
    left, right = centre - half * across, centre + half * across
    kept = _corners(np.concatenate([left, right], axis=1))
    marks = (
        *_read_marks([w.left_lane_marking for w in waypoints], left, across, -1.0, kept),
        *_read_marks([w.right_lane_marking for w in waypoints], right, across, 1.0, kept),
    )
    yield Lane(section.kind, section.in_junction, left[kept], right[kept], marks)


def _read_marks(
    markings: list[Any], edge: Array, across: Array, outward: float, kept: NDArray[np.intp]
) -> Iterator[Mark]:
    """Splits an edge where its mark changes, and double marks into their two lines."""
    names = [("", "") if marking is None else _named(marking.type, marking.color) for marking in markings]
    start = 0
    for end in range(1, len(names) + 1):
        if end < len(names) and names[end] == names[start]:
            continue
        last = min(end, len(names) - 1)  # up to where the next mark begins, so that no gap is left
        if names[start][0] and last > start:
            inside = np.unique([start, *kept[(kept > start) & (kept < last)], last])
            yield from _lines(*names[start], edge[inside], across[inside], outward)
        start = end


def _lines(kind: str, colour: str, points: Array, across: Array, outward: float) -> Iterator[Mark]:
    style = {"Solid": "solid", "Broken": "broken", "NONE": "none"}.get(kind, "other")
    inner, outer = _DOUBLE.get(kind, (style, ""))
    yield Mark(inner, colour, points, across)
    if outer:
        yield Mark(outer, colour, points + outward * DOUBLE_MARK_M * across, across)


@cache
def _named(kind: Any, colour: Any) -> tuple[str, str]:
    return str(kind), str(colour)


def _corners(points: Array) -> NDArray[np.intp]:
    """Which samples are kept: straight lines between them miss no other by more than FLATNESS_M.

    Args:
        points: (N, 2k): k curves, sample by sample.
    """
    kept: list[int] = [0]
    open_pieces = [(0, len(points) - 1)]
    while open_pieces:
        first, last = open_pieces.pop()
        if last - first > MAX_PIECE or _leaves_chord(points[first : last + 1]):
            middle = (first + last) // 2
            open_pieces += [(middle, last), (first, middle)]
        else:
            kept.append(last)
    return np.array(kept, dtype=np.intp)


def _leaves_chord(points: Array) -> bool:
    share = np.linspace(0.0, 1.0, len(points))[:, None]
    return bool(np.abs(points - (points[0] + share * (points[-1] - points[0]))).max() > FLATNESS_M)


def surface_quads(lanes: tuple[Lane, ...], margin_m: float = 0.0) -> Array:
    """The surface of lanes as quadrilaterals, (N, 4, 2), metres; neighbours share an edge.

    Args:
        lanes: of any kind.
        margin_m: by how much each lane is wider on both sides, and longer at both ends.
    """
    quads = [_strip(*_widened(lane.left, lane.right, margin_m)) for lane in lanes]
    return np.concatenate(quads) if quads else np.empty((0, 4, 2))


def _widened(left: Array, right: Array, margin: float) -> tuple[Array, Array]:
    if not margin:
        return left, right
    across = right - left
    across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    left, right = left - margin * across, right + margin * across
    ahead = np.array([[0.0, -1.0], [1.0, 0.0]])  # right → forward, in axes with y to the right of x
    before, after = across[:1] @ ahead.T * -margin, across[-1:] @ ahead.T * margin
    return (
        np.concatenate([left[:1] + before, left, left[-1:] + after]),
        np.concatenate([right[:1] + before, right, right[-1:] + after]),
    )


def mark_quads(mark: Mark, width_m: float) -> Array:
    """A mark of that width as quadrilaterals, (N, 4, 2), metres."""
    side = mark.across * width_m / 2
    return _strip(mark.points - side, mark.points + side)


def _strip(left: Array, right: Array) -> Array:
    return np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
