"""What a bird's eye view shows: golden masks by hand, an independent rasterisation, what layers mean, and bad input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import carla
import numpy as np
import pytest
import shapely
from carla_cars import Actor, Light, car_at
from given_ego import GivenEgo, at_tick
from open_drive_texts import Lane, carla_map, road
from scipy import ndimage
from shapely import affinity
from toy_carla.towns import make_crossing

from carla_agent.observers.bird_layouts import (
    CARL,
    ROACH,
    Agents,
    Band,
    BirdLayout,
    Layer,
    Lights,
    Marks,
    Surface,
)
from carla_agent.observers.bird_view import BirdView
from carla_agent.observers.route import Plan, Route
from carla_agent.observers.stop_lines import find_stop_lines
from carla_agent.observers.town_raster import TownRaster
from carla_mlflow import DrivingError


def following(points) -> Route:
    route, points = Route(), np.array(points, dtype=np.float64)
    route.replace(Plan(points, np.full(len(points), 4), np.zeros(len(points), dtype=bool)))
    return route


def art(mask: np.ndarray) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]


# Golden masks. One pixel is 12/11 m, the car is at column 5.5 and row 8.25: a pixel's centre lies
# (column - 5.5) * 12/11 m to the right of the car and (8.25 - row) * 12/11 m ahead of it.
SMALL = BirdLayout(
    size=12,
    pixels_per_metre=1.0,
    below_car=3.0,
    layers=(
        Layer("road", (Surface(),)),
        Layer("marks", (Marks(width_px=1.0, value=255, white_broken=120),)),
        Layer("vehicles", (Agents(("vehicle.",)),)),
    ),
)
TWO_LANES = carla_map(road(1, (0.0, 0.0, 0.0), [(40.0, 0.0)]))  # y from -3.5 to 3.5 m, broken white line in the middle


def golden_view(x: float, y: float, yaw: float) -> np.ndarray:
    van = Actor(23.0, 2.0, yaw=0.0)  # x from 20.5 to 25.5 m, y from 1 to 3 m
    return BirdView(GivenEgo(car_at(x, y, yaw)), TWO_LANES, lambda: [van], SMALL).observe(at_tick(0))["birdview"]


def test_golden_masks_of_a_car_that_looks_along_the_road():
    # It drives at y = 1 m: edges 4.5 m to its left and 2.5 m to its right (columns 1.38 and 7.79), the middle line 1 m
    # to its left (column 4.58), the van 0 to 2 m to its right and 3.5 to 8.5 m ahead (rows 0.46 to 5.04).
    got = golden_view(17.0, 1.0, 0.0)
    assert art(got[0]) == ["..######...."] * 12
    assert art(got[1] == 255) == [".#......#..."] * 12
    assert art(got[1] == 120) == [".....#......"] * 12
    assert art(got[2]) == ["............"] + ["......##...."] * 5 + ["............"] * 6


def test_golden_masks_of_a_car_that_looks_across_the_road_to_the_right():
    # It stands at the left edge, y = -3.5 m, and looks along y: the far edge is 7 m ahead, to the right is where x
    # is smaller. The van is 4.5 to 6.5 m ahead (rows 2.29 to 4.13), and 5.5 to 0.5 m to the left (columns
    # 0.46 to 5.04).
    got = golden_view(20.0, -3.5, 90.0)
    assert art(got[0]) == ["............"] * 2 + ["############"] * 7 + ["............"] * 3
    assert art(got[1] == 120) == ["............"] * 5 + ["############"] + ["............"] * 6
    assert art(got[2]) == ["............"] * 3 + [".#####......"] * 2 + ["............"] * 7


# An independent rasterisation: shapes from formulas, by shapely, looked up at pixel centres.
STRAIGHT, RADIUS = 60.0, 30.0
BENT = carla_map(
    road(1, (0.0, 0.0, 0.0), [(STRAIGHT, 0.0), (40.0, 1 / RADIUS), (30.0, 0.0)], (Lane(4.0),), (Lane(3.0),))
)


def reference(beyond: float = 0.0) -> np.ndarray:
    """Points along the middle of BENT in CARLA's axes, 1 mm or less from the curve, and longer at both ends."""
    turn = 40.0 / RADIUS
    angles = np.linspace(0.0, turn, 400)
    bend = np.stack([STRAIGHT + RADIUS * np.sin(angles), -RADIUS * (1 - np.cos(angles))], axis=1)
    ahead = np.array([math.cos(turn), -math.sin(turn)])
    return np.concatenate([[[-beyond, 0.0]], bend, [bend[-1] + (30.0 + beyond) * ahead]])


def sided(line: np.ndarray, left: float, right: float) -> shapely.Geometry:
    """The area from `left` metres on the left of a line to `right` metres on its right; left is where y is smaller."""
    path = shapely.LineString(line)
    # GEOS takes y as pointing up, so that its left (positive) is CARLA's right.
    return shapely.union(path.buffer(-left, single_sided=True), path.buffer(right, single_sided=True))


@dataclass
class Scene:
    """A car on BENT, with others around it."""

    layout: BirdLayout
    x: float
    y: float
    yaw: float
    seed: int

    @cached_property
    def actors(self) -> list[Actor]:
        rng = np.random.default_rng(self.seed)
        kinds = ("vehicle.car", "walker.pedestrian", "static.prop")
        return [
            Actor(self.x + dx, self.y + dy, yaw, id=number, type_id=kinds[number % 3], speed=speed)
            for number, (dx, dy, yaw, speed) in enumerate(
                rng.uniform((3, -16, 0, 0), (16, 16, 360, 20), (12, 4)).tolist()
            )
        ]

    @cached_property
    def route(self) -> np.ndarray:
        return np.array([(self.x + step, self.y + 4 * math.sin(step / 9)) for step in np.arange(0.0, 60.0)])

    def image(self) -> np.ndarray:
        view = BirdView(
            GivenEgo(car_at(self.x, self.y, self.yaw)), BENT, lambda: self.actors, self.layout, following(self.route)
        )
        return view.observe(at_tick(0))[self.layout.field]

    def centres(self) -> np.ndarray:
        """World points of pixel centres, (size, size, 2), by the source's own affine map: three corners."""
        size, scale, below = self.layout.size, self.layout.pixels_per_metre, self.layout.below_car
        yaw = math.radians(self.yaw)
        forward, right = np.array([math.cos(yaw), math.sin(yaw)]), np.array([-math.sin(yaw), math.cos(yaw)])
        car = np.array([self.x, self.y])
        top_left = car + ((size - below) * forward - size / 2 * right) / scale
        down, across = -size / scale * forward, size / scale * right
        row, column = np.mgrid[:size, :size] / (size - 1)
        return top_left + row[..., None] * down + column[..., None] * across

    def box(self, actor: Actor, half: tuple[float, float], margin: float) -> shapely.Geometry:
        x, y = half[0] + margin, half[1] + margin
        turned = affinity.rotate(shapely.box(-x, -y, x, y), actor.yaw, origin=(0, 0))
        return affinity.translate(turned, actor.x, actor.y)

    def wanted(self) -> Iterator[tuple[int, shapely.Geometry]]:
        """Layers and what they show."""
        size = self.layout.size
        pixel = size / (size - 1) / self.layout.pixels_per_metre
        roach = self.layout is ROACH
        margin = (3.0 if roach else 0.5) * pixel
        yield 0, sided(reference(margin), 4.0 + margin, 3.0 + margin)
        yield 1, shapely.LineString(self.route).buffer((17.0 if roach else 7.3) / 2 * pixel)
        width = (2.0 if roach else 2.2) / 2 * pixel
        path = shapely.LineString(reference())
        marks = [path.offset_curve(-4.0), path, path.offset_curve(3.0)]
        yield 2, shapely.union_all([mark.buffer(width, cap_style="flat") for mark in marks])
        cars, walkers, props = (
            [a for a in self.actors if a.type_id.startswith(kind)] for kind in ("vehicle", "walker", "static")
        )
        if roach:
            for layer in (3, 4, 5, 6):
                yield layer, shapely.union_all([self.box(a, (2.5, 1.0), 0.5 * pixel) for a in cars])
            for layer in (7, 8, 9, 10):
                yield layer, shapely.union_all([self.box(a, (5.0, 2.0), 0.5 * pixel) for a in walkers])
            return
        for layer, group in ((3, cars), (4, walkers), (8, props)):
            yield layer, shapely.union_all([self.box(a, (2.5, 1.0), 0.5 * pixel) for a in group])


ANY_ROUTE = replace(
    CARL,
    layers=tuple(
        replace(layer, drawings=tuple(replace(d, in_junctions=False) if isinstance(d, Band) else
                                      replace(d, heading_line_px=0.0) if isinstance(d, Agents) else d
                                      for d in layer.drawings))
        for layer in CARL.layers
    ),
)  # fmt: skip
"""CARL, but with the route also outside junctions, and without lines of one pixel."""


@pytest.mark.parametrize("layout", [ROACH, ANY_ROUTE], ids=["Roach", "CaRL"])
@pytest.mark.parametrize("place", [(20.0, 1.5, 3.0), (62.0, -1.0, -40.0), (80.0, -7.0, 150.0), (40.0, -2.0, 91.0)])
def test_every_layer_agrees_with_an_independent_rasterisation(layout, place):
    scene = Scene(layout, *place, seed=int(place[0]))
    got, centres = scene.image(), scene.centres()
    compared = 0
    for layer, shape in scene.wanted():
        wanted = shapely.contains_xy(shape, centres[..., 0], centres[..., 1])
        if wanted.any():
            compared += 1
            shown = got[layer] > 0
            iou = np.sum(shown & wanted) / np.sum(shown | wanted)
            assert iou >= 0.99, (layout.layers[layer].name, iou)
    assert compared >= 6


@pytest.mark.parametrize("place", [(-10.0, 3.0, 20.0), (70.0, 2.0, 200.0)], ids=["junction", "bend"])
def test_the_road_is_where_carlas_own_map_finds_a_lane(place):
    crossing = carla.Map("crossing", make_crossing().opendrive)
    layout = replace(ROACH, layers=(Layer("road", (Surface(),)),))
    got = BirdView(GivenEgo(car_at(*place)), crossing, list, layout).observe(at_tick(0))["birdview"][0] > 0
    found = [
        crossing.get_waypoint(carla.Location(float(x), float(y), 0.0), project_to_road=False) is not None
        for x, y in Scene(layout, *place, seed=0).centres().reshape(-1, 2)
    ]
    wanted = np.array(found).reshape(got.shape)
    assert 0.1 < wanted.mean() < 0.9
    assert np.sum(got & wanted) / np.sum(got | wanted) >= 0.99


# What the layers mean.
STREET = carla_map(road(1, (0.0, 0.0, 0.0), [(200.0, 0.0)]))
AHEAD = following([(x, 1.75) for x in range(200)])


def view(layout: BirdLayout, actors=(), x: float = 50.0, route: Route | None = AHEAD, **more) -> BirdView:
    return BirdView(GivenEgo(car_at(x, 1.75)), STREET, lambda: list(actors), layout, route, **more)


def seen(layout: BirdLayout, actors=(), **more) -> dict[str, np.ndarray]:
    image = view(layout, actors, **more).observe(at_tick(0))[layout.field]
    return {layer.name: mask for layer, mask in zip(layout.layers, image, strict=True)}


def values(mask: np.ndarray) -> list[int]:
    return sorted(set(mask.ravel().tolist()) - {0})


def test_the_layouts_are_those_that_the_policies_take():
    assert [(len(a.layers), a.size, a.pixels_per_metre, a.below_car) for a in (ROACH, CARL)] == [
        (15, 192, 5.0, 40.0),
        (10, 256, 2.0, 100.0),
    ]
    specs = [view(layout).spec[0] for layout in (ROACH, CARL)]
    assert [(spec.dtype, spec.shape, spec.low, spec.high) for spec in specs] == [
        ("uint8", (15, 192, 192), 0, 255),
        ("uint8", (10, 256, 256), 0, 255),
    ]


OF_SIGNS = {ROACH: ("lights and stops, 0 ticks ago",) * 2, CARL: ("lights", "stop signs")}
"""The layers that show traffic lights, and stop signs."""


@pytest.mark.parametrize("layout", [ROACH, CARL], ids=["Roach", "CaRL"])
@pytest.mark.parametrize("yaw", [0.0, 8.0, -17.0])
def test_lights_and_stop_signs_agree_with_an_independent_rasterisation(layout: BirdLayout, yaw: float):
    light, sign = Light(190.0, 1.75, 90.0), Light(190.0, 1.75, type_id="traffic.stop")
    [line] = find_stop_lines([light], STREET)
    assert sorted(line.ends[:, 1]) == pytest.approx([1.75 - 1.4, 1.75 + 1.4])  # four fifths of a lane of 3.5 m
    assert line.ends[:, 0] == pytest.approx(199.75, abs=0.3)  # where the lane ends
    pixel = layout.size / (layout.size - 1) / layout.pixels_per_metre
    [width] = {d.width_px for layer in layout.layers for d in layer.drawings if isinstance(d, Lights)}
    half = 1.5 + 0.5 * pixel  # its trigger volume made square, and half a pixel more
    wanted = (
        shapely.LineString(line.ends).buffer(width * pixel / 2, quad_segs=64),
        shapely.box(190 - half, 1.75 - half, 190 + half, 1.75 + half),
    )
    for actor, name, shape in zip((light, sign), OF_SIGNS[layout], wanted, strict=True):
        car = replace(car_at(182.0, 1.75, yaw), velocity=(5.0, 0.0, 0.0))
        got = BirdView(GivenEgo(car), STREET, lambda actor=actor: [actor], layout, AHEAD).observe(at_tick(0))
        shown = got[layout.field][[layer.name for layer in layout.layers].index(name)] > 0
        centres = Scene(layout, 182.0, 1.75, yaw, seed=0).centres()
        expected = shapely.contains_xy(shape, centres[..., 0], centres[..., 1])
        assert expected.any()
        assert np.sum(shown & expected) / np.sum(shown | expected) >= 0.99, name


@pytest.mark.parametrize(("layout", "broken"), [(ROACH, 120), (CARL, 127)], ids=["Roach", "CaRL"])
def test_white_broken_marks_have_a_value_of_their_own(layout, broken):
    assert values(seen(layout)["lane marks"]) == [broken, 255]


def test_marks_end_where_a_junction_begins_and_the_road_does_not():
    crossing = carla.Map("crossing", make_crossing().opendrive)
    layout = replace(ROACH, layers=ROACH.layers[:1] + ROACH.layers[2:3])
    image = BirdView(GivenEgo(car_at(0.0, 0.0)), crossing, list, layout).observe(at_tick(0))["birdview"]
    assert image[0, 150, 96] == 255
    assert not image[1, 100:].any()


@pytest.mark.parametrize(("layout", "name"), [(ROACH, "lights and stops, 0 ticks ago"), (CARL, "lights")])
def test_a_traffic_light_is_a_line_across_its_lane_coloured_by_its_state(layout, name):
    shown = {}
    for state in ("Green", "Yellow", "Red", "Off"):
        light = Light(190.0, 1.75, 90.0, getattr(carla.TrafficLightState, state))
        shown[state] = seen(layout, [light], x=180.0)[name]
    assert [values(mask) for mask in shown.values()] == [[80], [170], [255], []]
    rows, columns = np.nonzero(shown["Red"])
    assert columns.max() - columns.min() > 2 * (rows.max() - rows.min())


def test_carls_yellow_light_counts_down_to_the_value_of_red():
    light = Light(190.0, 1.75, 90.0, carla.TrafficLightState.Yellow)
    shown = []
    for light.elapsed in (0.0, 1.5, 3.0):
        shown += values(seen(CARL, [light], x=180.0)["lights"])
    assert shown == [170, 212, 255]


def test_carl_shows_only_lights_on_the_route_and_roach_all():
    # On a road without a junction a stop line lies where the lane ends, at most 60 m on.
    ours, theirs = Light(190.0, 1.75, 90.0), Light(10.0, -1.75, -90.0, id=91)

    def lines(layout: BirdLayout, name: str, x: float) -> int:
        return ndimage.label(seen(layout, [ours, theirs], x=x)[name])[1]

    assert [lines(CARL, "lights", x) for x in (180.0, 10.0)] == [1, 0]
    assert [lines(ROACH, "lights and stops, 0 ticks ago", x) for x in (180.0, 5.0)] == [1, 1]


def test_carls_actors_are_coded_by_speed_and_point_to_where_they_will_be():
    still, quick = Actor(60.0, 1.75), Actor(60.0, 1.75, speed=10.0)
    assert values(seen(CARL, [still])["vehicles"]) == [127 + int(128 * 2.67 / 36)]
    mask = seen(CARL, [quick])["vehicles"]
    assert values(mask) == [127 + int(128 * 12.67 / 36)]
    # 10 m ahead of the car, half a car's length and 10 m on: 22.5 m, which is row 155.4 - 44.8.
    assert np.nonzero(mask)[0].min() == pytest.approx(155.4 - 44.8, abs=1.5)


def test_carls_lamps_lie_upon_the_vehicle():
    @dataclass
    class Car(Actor):
        lamps: carla.VehicleLightState = carla.VehicleLightState.NONE
        attributes = {"special_type": "emergency"}  # noqa: RUF012

        def get_light_state(self):
            return self.lamps

    state = carla.VehicleLightState
    shown = [
        values(seen(CARL, [Car(60.0, 1.75, lamps=lamps)])["vehicles"])
        for lamps in (state.Brake, state.LeftBlinker, state.RightBlinker, state.Special1)
    ]
    assert shown == [[111, 136], [44, 136], [77, 136], [22, 136]]


def test_dirt_on_the_road_is_no_obstacle():
    names = {"static.prop.dirtdebris01": False, "static.prop.trafficcone01": True}
    assert {
        name: bool(seen(CARL, [Actor(60.0, 1.75, type_id=name)])["static obstacles"].any()) for name in names
    } == names


def test_carl_draws_the_route_in_junctions_only():
    crossing = carla.Map("crossing", make_crossing().opendrive)
    points = [(x, 0.0) for x in np.arange(-60.0, 60.0)]
    image = BirdView(GivenEgo(car_at(-40.0, 0.0)), crossing, list, CARL, following(points)).observe(at_tick(0))
    rows = np.nonzero(image["bev_semantics"][1].any(axis=1))[0]
    # The junction reaches from 20 to 60 m ahead of the car; the band is 3.65 pixels longer at both ends.
    assert (rows.min(), rows.max()) == pytest.approx((155.4 - 119.5 - 3.65, 155.4 - 39.8 + 3.65), abs=2.5)


def test_a_stop_sign_is_shown_until_the_car_has_stopped():
    sign = Light(60.0, 1.75, type_id="traffic.stop")
    ego = GivenEgo(replace(car_at(50.0, 1.75), velocity=(5.0, 0.0, 0.0)))
    stops = BirdView(ego, STREET, lambda: [sign], CARL, AHEAD)

    def is_shown(x: float, speed: float) -> bool:
        ego.car = replace(car_at(x, 1.75), velocity=(speed, 0.0, 0.0))
        return bool(stops.observe(at_tick(0))["bev_semantics"][6].any())

    shown = [is_shown(*at) for at in [(30.0, 5.0), (50.0, 5.0), (57.0, 0.05), (58.0, 5.0), (70.0, 5.0), (50.0, 5.0)]]
    assert shown == [False, True, False, False, False, True]


@pytest.mark.parametrize("ticks", [1, 2], ids=["a world at 20 Hz", "a world at 10 Hz"])
def test_roachs_history_is_half_seconds_apart_whatever_the_worlds_rate(ticks):
    car = Actor(55.0, 1.75, id=3)
    birds = view(ROACH, [car])
    for frame in range(0, 61, ticks):  # 20 frames are one second, in which the car drives 5 m
        car.x = 55.0 + frame / 4
        image = birds.observe(at_tick(frame))["birdview"]
    fronts = [np.nonzero(mask)[0].min() for mask in image[3:7]]
    # Half a second is 2.5 m, which is 12.4 pixels.
    assert np.diff(fronts) == pytest.approx([-12.4, -12.4, -12.4], abs=1.0)


def test_before_there_is_a_history_the_first_tick_stands_for_it_and_reset_forgets_it():
    car = Actor(60.0, 1.75, id=3)
    birds = view(ROACH, [car])
    image = birds.observe(at_tick(0))["birdview"]
    assert all(np.array_equal(mask, image[3]) for mask in image[4:7])
    car.x = 70.0
    later = birds.observe(at_tick(1))["birdview"]
    assert np.array_equal(later[3], image[3])
    assert not np.array_equal(later[6], image[6])
    birds.reset()
    image = birds.observe(at_tick(2))["birdview"]
    assert np.array_equal(image[3], later[6])


def test_the_driven_car_and_what_is_on_a_bridge_are_not_shown():
    above = Actor(60.0, 1.75, z=9.0, id=4)
    assert not seen(ROACH, [Actor(50.0, 1.75), above])["vehicles, 0 ticks ago"].any()


def test_without_a_plan_there_is_no_image_yet():
    assert view(ROACH, route=Route()).observe(at_tick(0)) is None


# A raster of the user's own.
def raster(scale: float = 5.0, **layers) -> TownRaster:
    rng = np.random.default_rng(0)
    names = ("road", "lane_marking_all", "lane_marking_white_broken")
    masks = {name: (rng.random((300, 400)) < 0.2).astype(np.uint8) * 255 for name in names}
    return TownRaster(masks | layers, scale, (20.0, -28.0))


def test_a_raster_is_sampled_as_opencv_does_with_any_of_four_neighbours():
    town = raster()
    got = seen(ROACH, raster=town, x=50.03)
    centres = Scene(ROACH, 50.03, 1.75, 0.0, seed=0).centres()
    column, row = ((centres - town.origin) * town.pixels_per_metre).transpose(2, 0, 1)
    sampled = ndimage.map_coordinates(
        town.layers["road"].astype(np.float64), [row, column], order=1, mode="grid-constant"
    )
    assert np.array_equal(got["road"] == 255, sampled > 1e-6)
    assert values(got["lane marks"]) == [120, 255]


def test_a_raster_that_lacks_a_layer_is_refused():
    with pytest.raises(DrivingError, match="draws the raster's layer parking; it has lane_marking_all, "):
        view(CARL, raster=raster())


def test_outside_the_raster_there_is_nothing():
    assert not seen(ROACH, raster=raster(), x=5000.0)["road"].any()


def test_a_layout_with_a_route_needs_one():
    with pytest.raises(DrivingError, match="the layout of birdview draws the route: give BirdView a route"):
        view(ROACH, route=None)


def test_the_fields_name_can_be_chosen():
    assert list(view(ROACH, field="bev").observe(at_tick(0))) == ["bev"]
