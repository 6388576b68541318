"""The lanes and marks of an OpenDRIVE map as arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from open_drive_texts import Lane, carla_map, road

from carla_agent.observers.road_map import FLATNESS_M, RoadMap, mark_quads, surface_quads


def street(*right: Lane, left: tuple[Lane, ...] = (), centre: str = "broken", length: float = 50.0) -> RoadMap:
    return RoadMap.of(carla_map(road(1, (0.0, 0.0, 0.0), [(length, 0.0)], left, right, centre)))


def test_edges_lie_left_and_right_in_the_lanes_driving_direction():
    lanes = street(Lane(3.0), left=(Lane(4.0),)).lanes
    ends = {
        tuple(lane.left[0].round(2)): (lane.left[-1].round(2).tolist(), lane.right[0].round(2).tolist())
        for lane in lanes
    }
    assert ends == {
        (0.0, 0.0): ([50.0, 0.0], [0.0, 3.0]),  # along x, its right is where y is larger
        (50.0, 0.0): ([0.0, 0.0], [50.0, -4.0]),  # against x
    }


def test_lanes_of_other_kinds_are_known_and_sidewalks_are_not():
    kinds = ("driving", "parking", "shoulder", "sidewalk")
    assert sorted(lane.kind for lane in street(*(Lane(kind=kind) for kind in kinds)).lanes) == sorted(kinds[:3])


def test_a_straight_lane_has_few_pieces_and_a_bend_keeps_to_its_curve():
    straight = street(Lane(), length=1000.0).lanes[0]
    assert len(straight.left) < 40
    radius = 20.0
    bent = RoadMap.of(carla_map(road(1, (0.0, 0.0, 0.0), [(60.0, 1 / radius)], (), (Lane(4.0),)))).lanes[0]
    middles = (bent.right[1:] + bent.right[:-1]) / 2
    assert np.abs(np.hypot(middles[:, 0], middles[:, 1] + radius) - (radius + 4.0)).max() < 3 * FLATNESS_M


def test_the_surface_has_the_lanes_area_and_a_margin_on_all_sides():
    lanes = street(Lane(3.0), Lane(3.0)).lanes

    def area(margin: float) -> float:
        x, y = surface_quads(lanes[:1], margin).transpose(2, 0, 1)
        return float(np.abs(np.sum(x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1), axis=1) / 2).sum())

    assert area(0.0) == pytest.approx(150.0, abs=0.01)
    assert area(0.5) == pytest.approx(51.0 * 4.0, abs=0.01)


@pytest.mark.parametrize(
    ("mark", "styles"),
    [
        ("solid", ["solid"]),
        ("broken", ["broken"]),
        ("none", ["none"]),
        ("curb", ["other"]),
        ("solid solid", ["solid", "solid"]),
        ("solid broken", ["broken", "solid"]),
    ],
)
def test_marks_have_a_style_and_double_ones_are_two_lines(mark, styles):
    lane = street(Lane(3.0, mark=mark, colour="yellow")).lanes[0]
    right = [line for line in lane.marks if line.points[0, 1] > 2.9]
    assert [line.style for line in right] == styles
    assert [round(float(line.points[0, 1]), 3) for line in right] == [3.0, 3.5][: len(styles)]
    if mark in ("solid", "broken"):
        assert right[0].colour == "Yellow"


def test_a_mark_of_some_width_lies_on_both_sides_of_its_line():
    mark = street(Lane(3.0)).lanes[0].marks[-1]
    quads = mark_quads(mark, 0.4)
    assert (quads[..., 1].min(), quads[..., 1].max()) == pytest.approx((2.8, 3.2))
    assert (quads[..., 0].min(), quads[..., 0].max()) == pytest.approx((0.0, 50.0), abs=0.01)


def test_the_same_town_is_read_once_and_another_anew():
    first = street(Lane(3.1))
    assert street(Lane(3.1)) is first
    assert street(Lane(3.2)) is not first
    assert len(first.digest) == 64


def test_lanes_in_a_junction_are_known_as_such():
    the_map = carla_map(
        road(1, (0.0, 0.0, 0.0), [(20.0, 0.0)]), road(2, (20.0, 0.0, math.pi / 2), [(20.0, 0.0)], junction=5)
    )
    assert sorted(lane.in_junction for lane in RoadMap.of(the_map).lanes) == [False, False, True, True]
