"""CaRL's inputs for steering follow its formulas, once per decision."""

from __future__ import annotations

from dataclasses import replace

import carla
import pytest
from given_ego import GivenEgo, at_tick, standing_car

from carla_agent.observers.measurements import carl_measurements
from carla_agent.observers.wheels import WheelControl


class TurnedWheels(GivenEgo):
    """A car whose front wheels stand at given angles, and which counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(standing_car())
        self.vehicle = self
        self.left = self.right = 0.0
        self.asked = 0

    def get_wheel_steer_angle(self, wheel: carla.VehicleWheelLocation) -> float:
        self.asked += 1
        return {carla.VehicleWheelLocation.FL_Wheel: self.left, carla.VehicleWheelLocation.FR_Wheel: self.right}[wheel]


def test_angle_error_derivative_and_integral_follow_carls_formulas():
    ego = TurnedWheels()
    wheels = WheelControl(ego, ticks=1)
    asked = [(0.5, 20.0, 10.0), (0.8, 36.0, 24.0), (0.2, 12.0, 12.0)]
    before, errors = 0.0, [0.0] * 10
    for tick, (steer, left, right) in enumerate(asked):
        ego.car, ego.left, ego.right = replace(ego.car, steer=steer), left, right
        observed = wheels.observe(at_tick(tick))["wheels"].tolist()
        errors.append(steer - before)
        before = (left + right) / 2 / 60
        assert observed == pytest.approx([before, errors[-1], errors[-1] - errors[-2], sum(errors[-10:]) / 10])


def test_the_simulator_is_asked_once_per_decision():
    ego = TurnedWheels()
    wheels = WheelControl(ego, ticks=2)
    for tick in range(10):
        wheels.observe(at_tick(tick))
    assert ego.asked == 2 * 5


def test_a_new_route_begins_without_errors():
    ego = TurnedWheels()
    ego.car, ego.left = replace(ego.car, steer=1.0), 30.0
    wheels = WheelControl(ego)
    first = wheels.observe(at_tick(0))["wheels"].tolist()
    wheels.observe(at_tick(1))
    wheels.observe(at_tick(2))
    wheels.reset()
    assert wheels.observe(at_tick(3))["wheels"].tolist() == first


def test_it_is_the_part_after_the_speed_limit_in_carls_vector():
    ego = TurnedWheels()
    ego.left = ego.right = 30.0
    vector = carl_measurements(ego, more=[WheelControl(ego)]).observe(at_tick(0))["measurements"]
    assert vector.shape == (12,)
    assert vector[8] == 0.5
