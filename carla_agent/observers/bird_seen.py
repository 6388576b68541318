"""What a bird's eye view draws of one tick: actors, traffic lights and stop signs, and the route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import carla
import numpy as np
from numpy.typing import NDArray

from .bird_layouts import Agents, Band, Lights, Seen, Stops
from .bird_shapes import NOTHING, Array, Shapes, filled_with, joined, lines, rectangles, rounded_lines
from .bird_static import speed_values
from .boxes import Boxes
from .stop_lines import StopLine, yellow_left
from .stop_signs import StopSign

LAMPS: tuple[tuple[int, bool, float, float, int], ...] = (
    (int(carla.VehicleLightState.Special1) | int(carla.VehicleLightState.Special2), True, 0.0, 0.0, 22),
    (int(carla.VehicleLightState.LeftBlinker), False, 0.5, -0.5, 44),
    (int(carla.VehicleLightState.RightBlinker), False, 0.5, 0.5, 77),
    (int(carla.VehicleLightState.Brake), False, -1.5, 0.0, 111),
)
"""Bits of a light state, whether only emergency vehicles have it, metres ahead and to the right of the box's centre,
and the value of a square of 1 m there. Source: autonomousvision/CaRL, birds_eye_view/bev_observation.py."""
LAMP_HALF_M = 0.5
SECOND_S = 1.0


@dataclass(frozen=True)
class Moment:
    """What is seen at one tick.

    Attributes:
        boxes: actors near the car.
        lines: stop lines near the car.
        of_route: those on the route.
        stop: the stop sign that the car has to stop for.
        metres: of one pixel of the image.
    """

    boxes: Boxes
    lines: list[StopLine]
    of_route: list[StopLine]
    stop: StopSign | None
    metres: float


def shapes_of(drawing: Seen, moment: Moment) -> Shapes:
    """The shapes of one drawing."""
    if isinstance(drawing, Agents):
        return joined(_agents(drawing, moment))
    if isinstance(drawing, Lights):
        return _lights(drawing, moment)
    return _stop(drawing, moment)


def _agents(drawing: Agents, moment: Moment) -> Iterator[Shapes]:
    boxes = moment.boxes.of(drawing.kinds, drawing.without)
    if not boxes.kinds:
        return
    margin = drawing.margin_px * moment.metres
    half = np.maximum(boxes.half * drawing.scale, drawing.least_half_m)
    values = np.full(len(half), drawing.value, dtype=np.uint8)
    if drawing.by_speed:
        values = speed_values(boxes.speed).astype(np.uint8)
    yield Shapes(rectangles(boxes.centre, boxes.forward, half + margin), values)
    if drawing.heading_line_px:
        nose = boxes.centre + boxes.forward * half[:, :1]
        ahead = np.maximum(boxes.speed * SECOND_S, moment.metres)[:, None]
        yield Shapes(lines(nose, nose + boxes.forward * ahead, drawing.heading_line_px * moment.metres, margin), values)
    if drawing.lamps:
        yield from _lamps(boxes, margin)


def _lamps(boxes: Boxes, margin: float) -> Iterator[Shapes]:
    sideways = np.stack([-boxes.forward[:, 1], boxes.forward[:, 0]], axis=1)
    for bits, of_emergency, ahead, aside, value in LAMPS:
        on = (boxes.lamps & bits) != 0
        if of_emergency:
            on &= boxes.is_emergency
        centre = (boxes.centre + boxes.forward * ahead + sideways * aside)[on]
        yield filled_with(rectangles(centre, boxes.forward[on], np.full_like(centre, LAMP_HALF_M + margin)), value)


def _lights(drawing: Lights, moment: Moment) -> Shapes:
    shown: list[tuple[int, Array]] = []
    for line in moment.of_route if drawing.of_route else moment.lines:
        state = str(line.light.state)
        if state == "Green":
            shown.append((drawing.green, line.ends))
        elif state == "Red":
            shown.append((drawing.red, line.ends))
        elif state == "Yellow":
            value = drawing.yellow
            if drawing.countdown:
                value = int(drawing.red - yellow_left(line.light) * (drawing.red - drawing.yellow))
            shown.append((value, line.ends))
    if not shown:
        return NOTHING
    shown.sort(key=lambda pair: pair[0])  # green below yellow below red
    ends = np.array([ends for _, ends in shown])
    values = np.array([value for value, _ in shown], dtype=np.uint8)
    return Shapes(rounded_lines(ends[:, 0], ends[:, 1], drawing.width_px * moment.metres), values)


def _stop(drawing: Stops, moment: Moment) -> Shapes:
    sign = moment.stop
    if sign is None:
        return NOTHING
    half = np.full((1, 2), sign.half + drawing.margin_px * moment.metres)
    return filled_with(rectangles(sign.centre[None], sign.forward[None], half), drawing.value)


def band_of(drawing: Band, points: Array, is_drawn: NDArray[np.bool_], metres: float) -> Shapes:
    """The route as a band.

    Args:
        drawing: how wide, and its value.
        points: what lies ahead of the car, (N, 2).
        is_drawn: which of them are drawn, bool (N,).
        metres: of one pixel of the image.
    """
    goes_on = np.append(is_drawn[1:], False)[:, None]
    ends = np.where(goes_on, np.roll(points, -1, axis=0), points)
    return filled_with(rounded_lines(points[is_drawn], ends[is_drawn], drawing.width_px * metres), drawing.value)
