"""What a bird's eye view draws of the town itself: lanes, marks and speed signs, as polygons made once per layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .bird_frame import BirdFrame
from .bird_layouts import BirdLayout, Marks, SpeedSigns, Surface
from .bird_shapes import Array, Shapes, filled_with, joined, rectangles
from .open_drive import DRIVING
from .polygons import Indices
from .road_map import RoadMap, mark_quads, surface_quads

MAXIMUM_SPEED = "274"
"""The type of signs with a speed limit, as in OpenDRIVE files of CARLA's towns."""
SIGN_HALF_M, KMH = 1.0, 3.6
SLOWEST_MPS, FASTEST_MPS = -2.67, 33.33
"""Source, as of the sign's size: autonomousvision/CaRL, bev_observation.py and rl_config.py."""
MOVED_M = 16.0


def speed_values(speed: Array) -> Array:
    """127 at SLOWEST_MPS to 255 at FASTEST_MPS, whole numbers."""
    fraction = np.clip((speed - SLOWEST_MPS) / (FASTEST_MPS - SLOWEST_MPS), 0.0, 1.0)
    return 127 + np.floor(fraction * 128)


class StaticShapes:
    """The shapes of all layers, and which of them are near."""

    def __init__(
        self, layout: BirdLayout, frame: BirdFrame, road_map: RoadMap, carla_map: Any, has_raster: bool
    ) -> None:
        """Makes the shapes; lanes and marks only where no raster of the town is given."""
        made = [
            (index, _shapes(drawing, frame.metres, road_map, carla_map))
            for index, layer in enumerate(layout.layers)
            for drawing in layer.drawings
            if isinstance(drawing, SpeedSigns) or (isinstance(drawing, Surface | Marks) and not has_raster)
        ]
        self._all = joined(shapes for _, shapes in made)
        self._layers = np.repeat([index for index, _ in made], [len(shapes) for _, shapes in made]).astype(np.intp)
        self._low, self._high = self._all.polygons.min(axis=1), self._all.polygons.max(axis=1)
        self._reach = frame.reach_m + 1.5 * MOVED_M  # it may move by MOVED_M along x and along y
        self._near: tuple[Shapes, Indices] = self._all, self._layers
        self._chosen_at = np.array([np.inf, np.inf])

    def near(self, place: Array) -> tuple[Shapes, Indices]:
        """Shapes that may be seen from a world point (2,), and the layer of each."""
        if not np.abs(place - self._chosen_at).max() <= MOVED_M:
            chosen = ((self._low < place + self._reach) & (self._high > place - self._reach)).all(axis=1)
            self._near = Shapes(self._all.polygons[chosen], self._all.values[chosen]), self._layers[chosen]
            self._chosen_at = place
        return self._near


def _shapes(drawing: Surface | Marks | SpeedSigns, metres: float, road_map: RoadMap, carla_map: Any) -> Shapes:
    if isinstance(drawing, Surface):
        lanes = tuple(lane for lane in road_map.lanes if lane.kind in drawing.kinds)
        return filled_with(surface_quads(lanes, drawing.margin_px * metres), drawing.value)
    if isinstance(drawing, Marks):
        # White broken lines lie on top, as in Roach.
        return joined(sorted(_mark_shapes(drawing, road_map, metres), key=lambda shapes: _is_broken(shapes, drawing)))
    half = SIGN_HALF_M + drawing.margin_px * metres
    return joined(_sign_shapes(carla_map, half))


def _mark_shapes(drawing: Marks, road_map: RoadMap, metres: float) -> Iterator[Shapes]:
    for lane in road_map.lanes:
        if lane.in_junction or lane.kind != DRIVING:
            continue
        for mark in lane.marks:
            if mark.style != "none" or drawing.unpainted:
                broken = mark.style == "broken" and mark.colour == "White"
                value = drawing.white_broken if broken else drawing.value
                yield filled_with(mark_quads(mark, drawing.width_px * metres), value)


def _is_broken(shapes: Shapes, drawing: Marks) -> bool:
    return bool(shapes.values[0] == drawing.white_broken)


def _sign_shapes(carla_map: Any, half: float) -> Iterator[Shapes]:
    for sign in carla_map.get_all_landmarks_of_type(MAXIMUM_SPEED):
        place, yaw = sign.transform.location, np.radians(sign.transform.rotation.yaw)
        square = rectangles(
            np.array([[place.x, place.y]]), np.array([[np.cos(yaw), np.sin(yaw)]]), np.array([[half, half]])
        )
        yield filled_with(square, int(speed_values(np.array(sign.value / KMH))))
