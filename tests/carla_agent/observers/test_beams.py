"""Beams in CARLA's world give what the training environment gives on the same road, among the same cars."""

from __future__ import annotations

import math

import carla
import numpy as np
import pytest
from carla_cars import Actor, car_at
from given_ego import GivenEgo, at_tick
from highway_env.road.lane import CircularLane, StraightLane
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.kinematics import Vehicle
from open_drive_texts import Lane, carla_map, road
from scipy import ndimage

from carla_agent.observers import beams as ours
from carla_agent.observers import road_raster
from carla_agent.observers.beams import BEAM_RANGE_M, Beams
from carla_agent.observers.road_map import RoadMap
from carla_agent.observers.road_raster import CELL_M, RoadRaster
from carla_mlflow import Card
from carla_mlflow.errors import DrivingError
from training_export.racetrack import beams as training
from training_export.racetrack.beams import TrackRaster, car_beams, rasterise, road_beams

WIDE = (Lane(5.0),)


def straight_map():
    """From x = 0 to 200 m, its edges at y = -5 and 5 m."""
    return carla_map(road(1, (0.0, 0.0, 0.0), [(200.0, 0.0)], WIDE, WIDE))


def ring() -> tuple[RoadNetwork, carla.Map]:
    """A ring of two lanes like the racetrack's, in highway-env and in OpenDRIVE.

    They are 4.9 m wide, so that edges do not lie on the borders of cells, where rounding decides.
    """
    network = RoadNetwork()
    for y, radius in ((0.05, 20.05), (4.95, 24.95)):
        arc = {"clockwise": False, "width": 4.9}
        network.add_lane("a", "b", StraightLane([42, y], [100, y], width=4.9))
        network.add_lane("b", "c", CircularLane([100, -20], radius, math.pi / 2, -math.pi / 2, **arc))
        network.add_lane("c", "d", StraightLane([100, -20 - radius], [42, -20 - radius], width=4.9))
        network.add_lane("d", "a", CircularLane([42, -20], radius, 3 * math.pi / 2, math.pi / 2, **arc))
    bend = (22.5 * math.pi, 1 / 22.5)
    lanes = (Lane(4.9),)
    return network, carla_map(road(1, (42.0, -2.5, 0.0), [(58.0, 0.0), bend, (58.0, 0.0), bend], lanes, lanes))


def places(rng: np.random.Generator, network: RoadNetwork, count: int):
    lanes = network.lanes_list()
    for _ in range(count):
        lane = lanes[rng.integers(len(lanes))]
        along, lateral = rng.uniform(0, lane.length), rng.uniform(-2, 2)
        yield lane.position(along, lateral), lane.heading_at(along) + rng.uniform(-0.5, 0.5)


def sensors(beams: Beams, frame: int = 0) -> np.ndarray:
    return beams.observe(at_tick(frame))["sensors"]


def test_constants_are_those_of_the_training_environment():
    assert ours.BEAM_ANGLES_DEG == training.BEAM_ANGLES_DEG
    assert (ours.BEAM_RANGE_M, ours.BEAM_STEP_M) == (training.BEAM_RANGE_M, training.BEAM_STEP_M)
    assert road_raster.CELL_M == training.CELL_M


def test_the_field_is_the_one_that_the_example_policy_asks_for():
    card = Card.load("examples/v0.1.0")
    made = Beams(GivenEgo(car_at(0.0, 0.0)), straight_map()).spec
    wanted = {spec.name: spec for spec in card.observation_spec}["sensors"]
    assert [(s.name, s.dtype, s.shape, s.low, s.high, s.unit) for s in made] == [
        (wanted.name, wanted.dtype, wanted.shape, wanted.low, wanted.high, wanted.unit)
    ]


def test_on_a_straight_road_the_distances_are_those_of_geometry():
    got = sensors(Beams(GivenEgo(car_at(100.0, 2.0)), straight_map())) * BEAM_RANGE_M
    angles = np.deg2rad(ours.BEAM_ANGLES_DEG)
    room = np.where(np.sin(angles) > 0, 3.0, 7.0)  # to the right edge, to the left edge
    with np.errstate(divide="ignore"):
        exact = np.minimum(room / np.abs(np.sin(angles)), BEAM_RANGE_M)
    # A cell across the beam is longer along it the flatter it meets the edge.
    slack = CELL_M / np.maximum(np.abs(np.sin(angles)), 0.1) + ours.BEAM_STEP_M
    assert np.all(np.abs(got - exact) <= slack)
    assert got[[5, 11]].tolist() == [BEAM_RANGE_M, BEAM_RANGE_M]


def test_on_the_ring_the_beams_are_those_of_the_training_environment_up_to_a_cell():
    network, the_map = ring()
    track = rasterise(network)
    more, less = (
        TrackRaster(change(np.pad(track.road, 1), np.ones((3, 3))), track.origin - CELL_M)
        for change in (ndimage.binary_dilation, ndimage.binary_erosion)
    )
    ego = GivenEgo(car_at(0.0, 0.0))
    origin = (
        track.origin - 1e-6
    )  # the track's grid begins at its edge: a trifle keeps that edge off the border of cells
    beams = Beams(ego, RoadRaster(RoadMap.of(the_map), tuple(origin)))
    same = []
    for position, heading in places(np.random.default_rng(0), network, 300):
        ego.car = car_at(position[0], position[1], math.degrees(heading))
        got = sensors(beams) * BEAM_RANGE_M
        assert np.all(got >= road_beams(less, position, heading) - 1e-4)
        assert np.all(got <= road_beams(more, position, heading) + 1e-4)
        same.append(np.isclose(got, road_beams(track, position, heading), atol=1e-4))
    assert np.mean(same) > 0.97


def test_beams_end_at_the_boxes_of_other_cars_as_in_the_training_environment():
    network, the_map = ring()
    rng = np.random.default_rng(1)
    for position, heading in places(rng, network, 60):
        cars = [
            Vehicle(Road(network), place, turned)
            for place, turned in places(rng, network, 30)
            if math.dist(place, position) > 6.0
        ]
        box = carla.BoundingBox(carla.Location(), carla.Vector3D(Vehicle.LENGTH / 2, Vehicle.WIDTH / 2, 0.7))
        actors = [
            Actor(car.position[0], car.position[1], math.degrees(car.heading), id=i, bounding_box=box)
            for i, car in enumerate(cars)
        ]
        ego = GivenEgo(car_at(position[0], position[1], math.degrees(heading)))
        alone = sensors(Beams(ego, the_map))
        among = sensors(Beams(ego, the_map, lambda actors=actors: actors))
        to_cars = np.minimum(car_beams(position, heading, cars) / BEAM_RANGE_M, 1.0)
        np.testing.assert_allclose(among, np.minimum(alone, to_cars), atol=2e-6)


@pytest.mark.parametrize(
    ("actor", "ahead_m"),
    [
        (Actor(70.0, 0.0), 17.5),
        (Actor(70.0, 0.0, yaw=90.0), 19.0),
        (Actor(70.0, 0.0, type_id="walker.pedestrian.0001"), 17.5),
        (Actor(70.0, 0.0, type_id="traffic.speed_limit.30"), 40.0),
        (Actor(70.0, 0.0, z=20.0), 40.0),  # on a bridge
        (Actor(70.0, 0.0, bounding_box=carla.BoundingBox(carla.Location(x=1.0), carla.Vector3D(2.5, 1, 1))), 18.5),
        (Actor(50.0, 0.0), 40.0),  # the beam begins inside: the car's own box
    ],
    ids=["car", "car across", "walker", "sign", "other level", "box off the origin", "own box"],
)
def test_the_beam_ahead_ends_at_an_actor_that_is_in_the_way(actor, ahead_m):
    got = sensors(Beams(GivenEgo(car_at(50.0, 0.0)), straight_map(), lambda: [actor])) * BEAM_RANGE_M
    assert got[5] == pytest.approx(ahead_m, abs=1e-4)


def test_the_driven_car_is_not_one_of_the_others():
    ego = GivenEgo(car_at(50.0, 0.0))
    ego.vehicle = Actor(70.0, 0.0, id=3)
    other = Actor(75.0, 0.0, id=4)
    got = sensors(Beams(ego, straight_map(), lambda: [ego.vehicle, other])) * BEAM_RANGE_M
    assert got[5] == pytest.approx(22.5, abs=1e-4)


def test_off_the_map_every_beam_is_short():
    assert np.all(sensors(Beams(GivenEgo(car_at(-5000.0, 7000.0)), straight_map())) * BEAM_RANGE_M <= ours.BEAM_STEP_M)


def test_other_angles_range_and_name_can_be_chosen():
    beams = Beams(GivenEgo(car_at(100.0, 0.0)), straight_map(), field="lidar", angles_deg=(-90.0, 0.0), range_m=20.0)
    got = beams.observe(at_tick(0))
    assert list(got) == ["lidar"]
    assert got["lidar"] == pytest.approx([0.25, 1.0], abs=0.03)
    beams.spec.validate({"lidar": got["lidar"][None]})


def test_a_map_without_driving_lanes_is_refused():
    paths = carla_map(road(1, (0.0, 0.0, 0.0), [(9.0, 0.0)], (), (Lane(kind="sidewalk"),)))
    with pytest.raises(DrivingError, match="the map small has no driving lane"):
        Beams(GivenEgo(car_at(0.0, 0.0)), paths)
