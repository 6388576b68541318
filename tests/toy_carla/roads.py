"""Roads as lines and arcs with lanes beside them: where a point lies, and where a lane's centre runs.

Everything here is in OpenDRIVE's axes: x east, y north, headings in radians against the clock, `t` positive to the left
of the reference line. `towns.py` turns points into CARLA's axes, whose y points the other way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Segment:
    """A piece of a reference line: a line where the curvature is 0, an arc to the left where it is positive."""

    x: float
    y: float
    heading: float
    length: float
    curvature: float = 0.0

    def at(self, along: float) -> tuple[float, float, float]:
        """x, y and heading, `along` metres from the start."""
        if not self.curvature:
            return self.x + along * math.cos(self.heading), self.y + along * math.sin(self.heading), self.heading
        heading, radius = self.heading + along * self.curvature, 1.0 / self.curvature
        x = self.x + radius * (math.sin(heading) - math.sin(self.heading))
        y = self.y - radius * (math.cos(heading) - math.cos(self.heading))
        return x, y, heading

    def locate(self, x: float, y: float) -> tuple[float, float] | None:
        """(along, t) of a point beside this piece; None for one before its start or beyond its end."""
        dx, dy = x - self.x, y - self.y
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        if self.curvature:
            radius = 1.0 / self.curvature
            turned = math.atan2(ahead, math.copysign(1.0, radius) * (radius - left))
            along = (turned % math.tau) * abs(radius)
            if along > math.tau * abs(radius) - 1e-6:  # a point at the very start, from the wrong side of rounding
                along = 0.0
            left = radius - math.copysign(math.hypot(ahead, radius - left), radius)
            ahead = along
        return (ahead, left) if -1e-6 <= ahead <= self.length + 1e-6 else None

    @property
    def end(self) -> tuple[float, float, float]:
        return self.at(self.length)


@dataclass(frozen=True)
class Lane:
    """A lane of a road. Ids as in OpenDRIVE: -1 is the first one right of the reference line, 1 the first one left."""

    id: int
    width: float
    mark: str = "solid"
    """The mark on its outer edge: solid, broken or none."""


@dataclass(frozen=True)
class Signal:
    """A traffic light for the lanes of one direction: `forward` ones are those right of the reference line."""

    id: int
    s: float
    forward: bool


LaneLinks = dict[int, tuple[int | None, int | None]]
"""Lane → lane of the road before, and of the road after, where there are such."""


@dataclass(frozen=True)
class Road:
    """A reference line with lanes.

    Attributes:
        before, after: what it is linked to, as ("road", id, "start" or "end") or ("junction", id).
        lane_links: how its lanes go on where it is linked to a road.
        junction: of which it is a connecting road; -1 where it is none.
    """

    id: int
    segments: tuple[Segment, ...]
    lanes: tuple[Lane, ...]
    before: tuple[str, int, str] | tuple[str, int] | None = None
    after: tuple[str, int, str] | tuple[str, int] | None = None
    lane_links: LaneLinks = field(default_factory=dict)
    junction: int = -1
    center_mark: str = "solid"
    signals: tuple[Signal, ...] = ()

    @cached_property
    def length(self) -> float:
        return sum(segment.length for segment in self.segments)

    def at(self, s: float, t: float = 0.0) -> tuple[float, float, float]:
        """x, y and the reference line's heading at (s, t)."""
        rest = s
        for segment in self.segments:
            if rest <= segment.length or segment is self.segments[-1]:
                x, y, heading = segment.at(rest)
                return x - t * math.sin(heading), y + t * math.cos(heading), heading
            rest -= segment.length
        raise AssertionError("a road has segments")

    def locate(self, x: float, y: float) -> list[tuple[float, float]]:
        """Every (s, t) of a point beside one of the pieces."""
        places, start = [], 0.0
        for segment in self.segments:
            if (place := segment.locate(x, y)) is not None:
                places.append((start + place[0], place[1]))
            start += segment.length
        return places

    def lane_at(self, t: float) -> Lane | None:
        """The lane at that distance from the reference line."""
        for lane in self.lanes:
            right, left = self.edges(lane)
            if right <= t <= left:
                return lane
        return None

    def edges(self, lane: Lane) -> tuple[float, float]:
        """`t` of the lane's right and left edge, looking along the reference line."""
        same_side = [one for one in self.lanes if one.id * lane.id > 0 and abs(one.id) <= abs(lane.id)]
        outer = sum(one.width for one in same_side)
        return (outer - lane.width, outer) if lane.id > 0 else (-outer, -outer + lane.width)

    def center(self, lane: Lane) -> float:
        """`t` of the lane's centre."""
        return sum(self.edges(lane)) / 2
