"""Layouts of bird's eye views, as data: Roach's and CaRL's, and what others can be made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .open_drive import DRIVING


@dataclass(frozen=True)
class Surface:
    """Lanes of some kinds.

    Attributes:
        kinds: types of lanes in OpenDRIVE.
        margin_px: by how much lanes are drawn wider at each side, pixels.
        value: of their pixels.
        raster: names of the layers that are taken instead, where the user gives a raster of the town.
    """

    kinds: tuple[str, ...] = (DRIVING,)
    margin_px: float = 0.0
    value: int = 255
    raster: tuple[str, ...] = ("road",)


@dataclass(frozen=True)
class Marks:
    """The marks between lanes, outside junctions.

    Attributes:
        width_px: of each line, pixels.
        value: of the pixels of all lines but white broken ones.
        white_broken: value of white broken lines.
        unpainted: also draw edges of lanes that OpenDRIVE says have no paint.
        raster, raster_white_broken: names of the layers that are taken instead where the user gives a raster.
    """

    width_px: float
    value: int = 255
    white_broken: int = 255
    unpainted: bool = True
    raster: str = "lane_marking_all"
    raster_white_broken: str = "lane_marking_white_broken"


@dataclass(frozen=True)
class Band:
    """The route ahead of the car.

    Attributes:
        width_px: of the band, pixels.
        length_m: how much of it is drawn, along the route, metres.
        in_junctions: draw only what lies in junctions.
        value: of its pixels.
    """

    width_px: float
    length_m: float
    in_junctions: bool = False
    value: int = 255


@dataclass(frozen=True)
class Agents:
    """Boxes of actors.

    Attributes:
        kinds: what their `type_id` begins with.
        without: parts of a `type_id` that leave an actor out.
        scale: factor on length and width.
        least_half_m: half of length and width are at least this, metres.
        margin_px: added to them, pixels.
        value: of their pixels, where they are not coded by speed.
        by_speed: value 127 at -2.67 m/s to 255 at 33.33 m/s.
        heading_line_px: width of a line from the nose to where the actor is in a second, pixels; 0 for none.
        lamps: draw brake lights, indicators and the lights of emergency vehicles upon them.
    """

    kinds: tuple[str, ...]
    without: tuple[str, ...] = ()
    scale: float = 1.0
    least_half_m: float = 0.0
    margin_px: float = 0.0
    value: int = 255
    by_speed: bool = False
    heading_line_px: float = 0.0
    lamps: bool = False


@dataclass(frozen=True)
class Lights:
    """Stop lines of traffic lights, by what the light shows; where lines overlap, the higher value is drawn.

    Attributes:
        width_px: of the line, pixels.
        green, yellow, red: values.
        countdown: yellow grows from `yellow` to `red` in its last three seconds.
        of_route: only those on the route, from 20 m behind the car to as far as its band is drawn.
    """

    width_px: float
    green: int = 80
    yellow: int = 170
    red: int = 255
    countdown: bool = False
    of_route: bool = False


@dataclass(frozen=True)
class Stops:
    """The area of the stop sign that the car has to stop for, until it has stopped."""

    margin_px: float = 0.0
    value: int = 255


@dataclass(frozen=True)
class SpeedSigns:
    """Squares of 2 m at signs with a speed limit, coded by the limit as `Agents.by_speed`."""

    margin_px: float = 0.0


Static = Surface | Marks | SpeedSigns
Seen = Agents | Lights | Stops
Drawing = Static | Seen | Band


@dataclass(frozen=True)
class Layer:
    """One channel of the image.

    Attributes:
        name: description, not used.
        drawings: one above the other, the last one on top.
        ago: how many history ticks ago agents, lights and stops are shown; always in the car's current frame.
    """

    name: str
    drawings: tuple[Drawing, ...]
    ago: int = 0


@dataclass(frozen=True)
class BirdLayout:
    """An image of the car's surroundings from above; up is the car's forward, right its right.

    Attributes:
        size: width and height, pixels.
        pixels_per_metre: on the scale of Roach's map; the image has (size - 1) / size of it, since Roach and CaRL map
            `size` pixels onto `size - 1` steps between pixels (`_get_warp_transform`).
        below_car: pixels between the car and the lower border, on the map's scale.
        layers: in the order of the channels.
        history_hz: how many history ticks there are in a second.
        field: default name of the field.
        seen_m: how far away actors and stop lines are drawn, along x and y, metres.
    """

    size: int
    pixels_per_metre: float
    below_car: float
    layers: tuple[Layer, ...]
    history_hz: float = 10.0
    field: str = "birdview"
    seen_m: float = 50.0


def _roach() -> BirdLayout:
    vehicles = Agents(("vehicle.",), least_half_m=0.8, margin_px=0.5)
    walkers = Agents(("walker.",), scale=2.0, least_half_m=0.8, margin_px=0.5)
    lights = Lights(width_px=6.7), Stops(margin_px=0.5)
    agos = (15, 10, 5, 0)
    return BirdLayout(
        size=192,
        pixels_per_metre=5.0,
        below_car=40.0,
        layers=(
            Layer("road", (Surface(margin_px=3.0),)),
            Layer("route", (Band(width_px=17.0, length_m=80.0),)),
            Layer("lane marks", (Marks(width_px=2.0, white_broken=120),)),
            *(Layer(f"vehicles, {ago} ticks ago", (vehicles,), ago) for ago in agos),
            *(Layer(f"walkers, {ago} ticks ago", (walkers,), ago) for ago in agos),
            *(Layer(f"lights and stops, {ago} ticks ago", lights, ago) for ago in agos),
        ),
        seen_m=39.0,
    )


ROACH = _roach()
"""Roach's 15 × 192 × 192, as its released policies take it.

Source: carla-roach, carla_gym/core/obs_manager/birdview/chauffeurnet.py, config/agent/ppo/obs_configs/birdview.yaml,
carla_gym/utils/birdview_map.py. Its history indices -16, -11, -6, -1 count ticks at 10 Hz, the current one included:
15, 10, 5 and 0 ticks ago. Widths and margins are what its drawing covers on average: lanes are polygons with a line of
5 pixels around them, marks are lines of one pixel, both are sampled with any of four neighbours; OpenCV fills polygons
up to and including their rounded border, and its line of 16 or 6 pixels covers 17 or 6.7. The areas of all layers were
within 3 % of those that pygame 2.6 and OpenCV 5.0 draw by these rules on a small town (CARL's within 5 %); where each
pixel is to be as in training, give BirdView the raster that the policy was trained with.
"""


def _carl() -> BirdLayout:
    props = Agents(("static.",), ("dirtdebris",), least_half_m=0.8, margin_px=0.5)
    walkers = replace(props, kinds=("walker.",), without=(), by_speed=True, heading_line_px=1.0)
    vehicles = replace(walkers, kinds=("vehicle.",), lamps=True)
    return BirdLayout(
        size=256,
        pixels_per_metre=2.0,
        below_car=100.0,
        layers=(
            Layer("road", (Surface((DRIVING, "parking"), margin_px=0.5, raster=("road", "parking")),)),
            Layer("route", (Band(width_px=7.3, length_m=150.0, in_junctions=True),)),
            Layer("lane marks", (Marks(width_px=2.2, white_broken=127),)),
            Layer("vehicles", (vehicles,)),
            Layer("walkers", (walkers,)),
            Layer("lights", (Lights(4.5, countdown=True, of_route=True),)),
            Layer("stop signs", (Stops(margin_px=0.5),)),
            Layer("speed signs", (SpeedSigns(margin_px=0.5),)),
            Layer("static obstacles", (props,)),
            Layer("shoulders", (Surface(("shoulder",), margin_px=0.5, raster=("shoulder",)),)),
        ),
        field="bev_semantics",
        seen_m=128.0,
    )


CARL = _carl()
"""CaRL's 10 × 256 × 256, as the released policy CaRL_300M takes it.

Source: autonomousvision/CaRL, team_code/birds_eye_view/bev_observation.py, team_code/rl_config.py and the arguments of
that policy's training (`--route_width 6 --render_shoulder 0 --use_shoulder_channel 1 --render_speed_lines 1
--render_yellow_time 1 --render_green_tl 1`); widths and margins as for ROACH. Not drawn: open doors, which a client
does not learn of, and the grey that bilinear sampling leaves at the edges of road and shoulder.
"""
