"""Makes small OpenDRIVE maps: roads of straight lines and arcs. Their y points to the left, CARLA's to the right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import carla

HEADER = (
    '<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="small">'
    "<geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0]]></geoReference></header>"
)


@dataclass(frozen=True)
class Lane:
    """One lane, and the mark at its outer edge."""

    width: float = 3.5
    kind: str = "driving"
    mark: str = "solid"
    colour: str = "white"

    def text(self, number: int) -> str:
        return (
            f'<lane id="{number}" type="{self.kind}" level="false"><link/>'
            f'<width sOffset="0" a="{self.width}" b="0" c="0" d="0"/>'
            f'<roadMark sOffset="0" type="{self.mark}" color="{self.colour}" width="0.15"/></lane>'
        )


def road(
    number: int,
    start: tuple[float, float, float],
    pieces: list[tuple[float, float]],
    left: tuple[Lane, ...] = (Lane(),),
    right: tuple[Lane, ...] = (Lane(),),
    centre: str = "broken",
    junction: int = -1,
) -> str:
    """A road.

    Args:
        number: its id.
        start: x, y and heading of its reference line, in OpenDRIVE's axes, metres and radians.
        pieces: length and curvature of each piece, metres and 1/m; positive curvature bends to the left.
        left: its lanes on the left, from the reference line outwards.
        right: likewise on the right.
        centre: mark on the reference line.
        junction: id of the junction that it belongs to; -1 for none.
    """
    (x, y, heading), along, geometry = start, 0.0, ""
    for length, curvature in pieces:
        shape = f'<arc curvature="{curvature!r}"/>' if curvature else "<line/>"
        geometry += (
            f'<geometry s="{along!r}" x="{x!r}" y="{y!r}" hdg="{heading!r}" length="{length!r}">{shape}</geometry>'
        )
        turn = length * curvature
        if curvature:
            x += (math.sin(heading + turn) - math.sin(heading)) / curvature
            y -= (math.cos(heading + turn) - math.cos(heading)) / curvature
        else:
            x, y = x + length * math.cos(heading), y + length * math.sin(heading)
        heading, along = heading + turn, along + length
    left_lanes = "".join(lane.text(i + 1) for i, lane in reversed(list(enumerate(left))))
    right_lanes = "".join(lane.text(-i - 1) for i, lane in enumerate(right))
    mark = f'<roadMark sOffset="0" type="{centre}" color="white" width="0.15"/>'
    return (
        f'<road name="{number}" length="{along!r}" id="{number}" junction="{junction}"><link/><type s="0" type="town"/>'
        f"<planView>{geometry}</planView>"
        '<elevationProfile><elevation s="0" a="0" b="0" c="0" d="0"/></elevationProfile><lateralProfile/>'
        '<lanes><laneOffset s="0" a="0" b="0" c="0" d="0"/><laneSection s="0">'
        + (f"<left>{left_lanes}</left>" if left else "")
        + f'<center><lane id="0" type="none" level="false">{mark}</lane></center>'
        + (f"<right>{right_lanes}</right>" if right else "")
        + "</laneSection></lanes></road>"
    )


def carla_map(*roads: str) -> carla.Map:
    """The real client's map of these roads."""
    return carla.Map("small", HEADER + "".join(roads) + "</OpenDRIVE>")
