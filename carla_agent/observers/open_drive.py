"""The lanes that an OpenDRIVE text declares: which roads there are, their sections, and the lanes in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

DRIVING = "driving"
KINDS = (DRIVING, "shoulder", "parking")
"""The types of lanes that observers draw, as OpenDRIVE spells them."""


@dataclass(frozen=True, slots=True)
class LaneSection:
    """One lane along one section of a road.

    Attributes:
        road: the road's id.
        lane: the lane's id; negative on the right of the reference line.
        kind: one of KINDS.
        start: where the section begins along the reference line, metres.
        end: where it ends, metres.
        in_junction: whether the road belongs to a junction.
    """

    road: int
    lane: int
    kind: str
    start: float
    end: float
    in_junction: bool


def lane_sections(xodr: str) -> Iterator[LaneSection]:
    """All lanes of the kinds in KINDS.

    Source: ASAM OpenDRIVE, `road`, `lanes/laneSection` and `lane`; CARLA reads the same elements in
    LibCarla/source/carla/opendrive/parser.
    """
    for road in ElementTree.fromstring(xodr).iter("road"):
        sections = road.findall("lanes/laneSection")
        starts = [float(section.get("s", 0.0)) for section in sections]
        ends = [*starts[1:], float(road.get("length", 0.0))]
        for section, start, end in zip(sections, starts, ends, strict=True):
            for lane in section.iter("lane"):
                kind, number = lane.get("type", ""), int(lane.get("id", 0))
                if kind in KINDS and number and end > start:
                    in_junction = road.get("junction", "-1") != "-1"
                    yield LaneSection(int(road.get("id", 0)), number, kind, start, end, in_junction)
