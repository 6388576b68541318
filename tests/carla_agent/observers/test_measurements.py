"""Named terms become fields in the units, axes and order that policies were trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import carla
import numpy as np
import pytest
from given_ego import GivenEgo, at_tick, standing_car

from carla_agent.contract_check import check_fit
from carla_agent.observers.measurements import (
    TERMS,
    Measurements,
    carl_measurements,
    racetrack_measurements,
    roach_state,
)
from carla_mlflow import ArraySpec, Card, DrivingError, ObservationSpec

CAR = replace(
    standing_car(),
    pitch=4.0,
    yaw=120.0,
    roll=-3.0,
    velocity=(3.0, 4.0, 0.5),
    throttle=0.25,
    steer=-0.5,
    brake=0.125,
    gear=2,
    speed_limit=90.0,
)


def test_the_example_policy_finds_its_speed_and_steering(example):
    measured = racetrack_measurements(GivenEgo(CAR))
    card = Card.load(example)
    for observer in measured:
        (spec,) = observer.spec
        wanted = next(each for each in card.observation_spec if each.name == spec.name)
        assert (spec.dtype, spec.shape, spec.low, spec.high, spec.unit) == (
            wanted.dtype, wanted.shape, wanted.low, wanted.high, wanted.unit,
        )  # fmt: skip
    speed, steering = (observer.observe(at_tick(1)) for observer in measured)
    assert speed == {"speed": np.float32(5.0)}
    assert speed["speed"].shape == ()
    assert steering == {"steering": np.float32(-0.5)}


def test_values_beyond_the_bounds_are_clipped_as_in_training():
    fast = replace(CAR, velocity=(80.0, 0.0, 0.0))
    speed, _ = racetrack_measurements(GivenEgo(fast))
    assert speed.observe(at_tick(1))["speed"] == np.float32(60.0)


def test_roachs_vector_has_its_order_and_the_velocity_in_the_cars_axes():
    state = roach_state(GivenEgo(CAR)).observe(at_tick(1))["state"]
    # CARLA's own rotation turns the car's axes into the world's: undone, it gives the velocity in the car's.
    matrix = np.array(carla.Transform(carla.Location(), carla.Rotation(CAR.pitch, CAR.yaw, CAR.roll)).get_matrix())
    in_car = matrix[:3, :3].T @ np.array(CAR.velocity)
    assert state.dtype == np.float32
    assert state == pytest.approx([0.25, -0.5, 0.125, 0.4, in_car[0], in_car[1]], abs=1e-6)


def test_carls_vector_turns_the_velocity_by_the_yaw_only():
    measured = carl_measurements(GivenEgo(CAR)).observe(at_tick(1))["measurements"]
    yaw = math.radians(120.0)
    forward, right = 3 * math.cos(yaw) + 4 * math.sin(yaw), 4 * math.cos(yaw) - 3 * math.sin(yaw)
    forward_speed = carla.Rotation(CAR.pitch, CAR.yaw, CAR.roll).get_forward_vector().dot(carla.Vector3D(3, 4, 0.5))
    assert measured == pytest.approx([-0.5, 0.25, 0.125, 2, forward, right, forward_speed, 25.0], abs=1e-5)


def test_every_term_is_a_number_for_a_car_that_stands():
    vector = Measurements(GivenEgo(standing_car()), "all", list(TERMS)).observe(at_tick(1))["all"]
    assert vector.shape == (len(TERMS),)
    assert np.isfinite(vector).all()


def test_other_observers_follow_in_the_same_vector():
    ego = GivenEgo(CAR)
    measured = carl_measurements(ego, more=[Measurements(ego, "twice", ["gear", "gear"])])
    assert measured.spec[0].shape == (10,)
    assert measured.observe(at_tick(1))["measurements"][8:].tolist() == [2, 2]


def test_there_is_no_vector_while_one_of_its_parts_has_no_data():
    silent = SimpleNamespace(
        spec=ObservationSpec([ArraySpec("later", "float32", (2,))]), reset=lambda: None, observe=lambda snapshot: None
    )
    assert Measurements(GivenEgo(CAR), "both", ["gear"], more=[silent]).observe(at_tick(1)) is None


def test_an_unknown_term_is_refused_with_the_known_ones():
    with pytest.raises(DrivingError, match="speed: no measurement is called 'sped'; there are speed, speed_xy"):
        Measurements(GivenEgo(CAR), "speed", "sped")


def test_what_the_source_does_not_know_is_refused_with_the_reason():
    class Blind(GivenEgo):
        unknown: Mapping[str, str] = MappingProxyType({"gear": "no sensor tells it"})

    with pytest.raises(DrivingError, match="m: gear can't be known here: no sensor tells it"):
        Measurements(Blind(CAR), "m", ["steer", "gear"])


def test_a_vector_that_fits_a_card_passes_its_check(example):
    card = Card.load(example)
    others = [Measurements(GivenEgo(CAR), "sensors", ["steer"] * 12, 0.0, 1.0)]
    check_fit(card, [*racetrack_measurements(GivenEgo(CAR)), *others])
