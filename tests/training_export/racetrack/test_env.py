from __future__ import annotations

import numpy as np
import pytest
from highway_env.vehicle.kinematics import Vehicle

from carla_mlflow.contract.field_card import observation_spec
from training_export.racetrack.beams import BEAM_ANGLES_DEG, BEAM_RANGE_M, car_beams, rasterise, road_beams
from training_export.racetrack.driving import drive_episode, random_driver
from training_export.racetrack.env import REVISION, Racetrack
from training_export.sources.from_checkpoint import racetrack_observation

AHEAD, RIGHT, LEFT = BEAM_ANGLES_DEG.index(0.0), BEAM_ANGLES_DEG.index(90.0), BEAM_ANGLES_DEG.index(-90.0)


@pytest.fixture
def env() -> Racetrack:
    env = Racetrack(traffic=4)
    env.reset(seed=0)
    return env


def test_braking_stops_the_car_and_never_reverses_it(env: Racetrack):
    speeds = []
    for _ in range(60):
        *_, terminated, _, info = env.step(np.array([-1.0, 0.0]))
        speeds.append(info["speed"])
        if terminated:
            break
    assert min(speeds) == 0.0
    assert speeds[-1] == 0.0


def test_positive_steer_turns_right_as_in_carla(env: Racetrack):
    heading = env.vehicle.heading
    env.step(np.array([0.0, 0.5]))
    assert env.vehicle.heading > heading  # y points down on this map, so growing angles turn clockwise


def test_the_same_seed_and_actions_give_the_same_episode():
    first, second = (drive_episode(Racetrack(traffic=4), random_driver(3), seed=5) for _ in range(2))
    assert first.row() == second.row()
    assert first.positions == second.positions


def test_every_observation_fits_the_cards_spec():
    specs = observation_spec(racetrack_observation())
    assert specs.names == ("speed", "steering", "sensors")
    episode = drive_episode(Racetrack(traffic=4), random_driver(1), seed=1)
    batch = {name: np.stack([o[name] for o in episode.observations]) for name in specs.names}
    assert specs.validate(batch) == len(episode.observations)


def test_beams_measure_the_distance_to_the_edge_of_the_road(env: Racetrack):
    raster = rasterise(env.road.network)
    # On the first straight: lanes 5 m wide at y = 0 and y = 5, so the road reaches from -2.5 to 7.5.
    free = road_beams(raster, np.array([70.0, 0.0]), heading=0.0)
    assert free[LEFT] == pytest.approx(2.5, abs=0.5)
    assert free[RIGHT] == pytest.approx(7.5, abs=0.5)
    assert (free > 0).all()
    assert (free <= BEAM_RANGE_M).all()


def test_beams_measure_the_distance_to_the_bumper_of_another_car(env: Racetrack):
    other = Vehicle(env.road, position=[80.0, 0.0], heading=0.0)
    free = car_beams(np.array([60.0, 0.0]), 0.0, [other])
    assert free[AHEAD] == pytest.approx(20.0 - Vehicle.LENGTH / 2, abs=1e-6)
    assert np.isinf(free[LEFT])
    assert np.isinf(free[BEAM_ANGLES_DEG.index(180.0)])
    turned = car_beams(np.array([60.0, 0.0]), 0.0, [Vehicle(env.road, position=[80.0, 0.0], heading=np.pi / 2)])
    assert turned[AHEAD] == pytest.approx(20.0 - Vehicle.WIDTH / 2, abs=1e-6)


def test_every_point_of_every_lane_is_road(env: Racetrack):
    raster = rasterise(env.road.network)
    for lane in env.road.network.lanes_list():
        for along in np.linspace(0.1, lane.length - 0.1, 50):
            for across in (-2.3, 0.0, 2.3):
                assert raster.is_road(lane.position(along, across))
    assert not raster.is_road(np.array([[-500.0, 0.0], [70.0, -20.0]])).any()


def between_the_edges(seen: dict[str, np.ndarray]) -> np.ndarray:
    """Steers to where there is more room, and drives at some 6 m/s."""
    angles, free = np.array(BEAM_ANGLES_DEG), seen["sensors"]
    right, left = (free[(sign * angles > 0) & (sign * angles < 90)].sum() for sign in (1, -1))
    slow = seen["speed"] < 6.5 and free[AHEAD] > 0.2
    steer = np.clip(0.15 * (right - left), -1, 1)
    return np.array([0.3 if slow else 0.0, 0.4 if free[AHEAD] < 0.15 else 0.0, steer], dtype=np.float32)


def test_an_episode_of_this_revision_goes_as_it_always_went():
    """Whoever changes these figures raises REVISION: evidence from before is another environment's."""
    episodes = [drive_episode(Racetrack(traffic=4), between_the_edges, seed) for seed in (6, 12)]
    assert [(len(e.speeds), e.crashed, e.off_road) for e in episodes] == [(52, False, True), (27, True, False)]
    assert [e.reward for e in episodes] == pytest.approx([11.8041, -11.2682], abs=1e-3)
    assert [e.distance_m for e in episodes] == pytest.approx([51.4, 26.8], abs=0.1)
    assert REVISION == 1
