from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.card_rules import check_action
from carla_mlflow.contract.control import controller, inverse_controller
from carla_mlflow.contract.control_kinds import RAW_NAMES

FALLBACK = {"throttle": 0.0, "brake": 1.0, "steer": 0.0}
TABLE = [Control(1, 0, 0), Control(0, 1, 0), Control(0.5, 0, -1)]


def control_of(kind: str, names: tuple[str, ...]):
    if kind == "table":
        return controller(ActionCard("categorical", {"choice": (0, 2)}, kind, 10, FALLBACK, table=TABLE))
    return controller(ActionCard("deterministic", dict.fromkeys(names, (-1, 1)), kind, 10, FALLBACK))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=3, max_size=3), st.sampled_from(["acceleration_steer", "throttle_brake_steer"]))
def test_control_is_always_inside_its_bounds(values: list[float], kind: str):
    names = RAW_NAMES[kind][::-1]
    raw = np.array([values[: len(names)]], dtype=np.float32)
    throttle, brake, steer = control_of(kind, names)(raw)[0]
    assert 0 <= throttle <= 1
    assert 0 <= brake <= 1
    assert -1 <= steer <= 1
    if kind == "acceleration_steer":
        assert throttle == 0 or brake == 0


def test_positive_acceleration_is_throttle_and_negative_is_brake():
    raw = np.array([[0.5, 0.1], [-0.25, -0.1], [0.0, -0.0]], dtype=np.float32)
    control = control_of("acceleration_steer", ("acceleration", "steer"))(raw)
    np.testing.assert_array_equal(control, np.array([[0.5, 0, 0.1], [0, 0.25, -0.1], [0, 0, 0]], dtype=np.float32))
    assert not np.signbit(control[2]).any()  # JSON would show -0.0


@pytest.mark.parametrize(
    ("names", "raw", "expected"),
    [
        (("steer", "acceleration"), [0.25, -0.5], [0, 0.5, 0.25]),
        (("acceleration", "steer"), [0.25, -0.5], [0.25, 0, -0.5]),
    ],
)
def test_the_order_of_the_raw_action_is_the_cards(names, raw, expected):
    control = control_of("acceleration_steer", names)(np.array([raw], dtype=np.float32))
    np.testing.assert_array_equal(control, np.array([expected], dtype=np.float32))


def test_throttle_brake_and_steer_are_taken_by_name():
    control = control_of("throttle_brake_steer", ("steer", "throttle", "brake"))(
        np.array([[-1, 0.5, -0.5]], np.float32)
    )
    np.testing.assert_array_equal(control, np.array([[0.5, 0, -1]], dtype=np.float32))


def test_a_choice_is_a_row_of_the_table():
    control = control_of("table", ())(np.array([[2], [0], [1]], dtype=np.float32))
    np.testing.assert_array_equal(control, np.array([[0.5, 0, -1], [1, 0, 0], [0, 1, 0]], dtype=np.float32))
    assert control.dtype == np.float32


def test_where_the_card_states_no_scale_the_bits_are_those_of_plain_clipping():
    rng = np.random.default_rng(0)
    raw = np.concatenate([rng.normal(0, 1, (5000, 2)), rng.normal(0, 1e-30, (50, 2)), np.eye(2), -np.eye(2)])
    raw = np.concatenate([raw, np.zeros((1, 2)), -np.zeros((1, 2))]).astype(np.float32)
    plain = np.stack([raw[:, 0], -raw[:, 0], raw[:, 1]], axis=1)
    plain = np.minimum(np.maximum(plain, [0, 0, -1]), 1).astype(np.float32) + np.float32(0)
    assert control_of("acceleration_steer", ("acceleration", "steer"))(raw).tobytes() == plain.tobytes()


GYM_CARLA = ActionCard(
    "gaussian",
    {"acceleration": (-3.0, 3.0), "steer": (-0.3, 0.3)},
    "acceleration_steer",
    10,
    FALLBACK,
    full_throttle=3.0,
    full_brake=-8.0,
    full_right=-1.0,
)
CARL = ActionCard("beta", {"steer": (-1, 1), "acceleration": (-1, 1)}, "acceleration_steer", 10, FALLBACK)
ROACH = ActionCard("beta", {"acceleration": (-1, 1), "steer": (-1, 1)}, "acceleration_steer", 10, FALLBACK)
ROACH_PEDALS = ActionCard(
    "beta", {"throttle": (0, 1), "steer": (-1, 1), "brake": (0, 1)}, "throttle_brake_steer", 10, FALLBACK
)


def gym_carla(action: np.ndarray) -> tuple[float, float, float]:
    acc, steer = map(float, action)
    return (np.clip(acc / 3, 0, 1), 0, -steer) if acc > 0 else (0, np.clip(-acc / 8, 0, 1), -steer)


def carl(action: np.ndarray) -> tuple[float, float, float]:
    return (action[1], 0, action[0]) if action[1] > 0 else (0, -action[1], action[0])


def roach(action: np.ndarray) -> tuple[float, float, float]:
    acc, steer = action.astype(np.float64)
    throttle, brake = (acc, 0.0) if acc >= 0.0 else (0.0, np.abs(acc))
    return np.clip(throttle, 0, 1), np.clip(brake, 0, 1), np.clip(steer, -1, 1)


def roach_pedals(action: np.ndarray) -> tuple[float, float, float]:
    throttle, steer, brake = action.astype(np.float64)
    return np.clip(throttle, 0, 1), np.clip(brake, 0, 1), np.clip(steer, -1, 1)


@pytest.mark.parametrize(
    ("card", "environment"), [(GYM_CARLA, gym_carla), (CARL, carl), (ROACH, roach), (ROACH_PEDALS, roach_pedals)]
)
def test_the_control_is_the_environments_own(card: ActionCard, environment):
    assert check_action(card) == []
    low, high = card.bounds
    raw = np.random.default_rng(1).uniform(low, high, (2000, len(low))).astype(np.float32)
    raw = np.concatenate([raw, np.stack([low, high, np.zeros_like(low)])])
    wanted = np.array([environment(row) for row in raw])
    np.testing.assert_allclose(controller(card)(raw), wanted, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(inverse_controller(card)(wanted.astype(np.float32)), raw, rtol=1e-6, atol=1e-6)


def test_the_control_is_highway_envs_own():
    import gymnasium as gym
    import highway_env  # noqa: F401  registers the environments

    settings = {"action": {"type": "ContinuousAction"}}
    env = gym.make("highway-v0", config=settings).unwrapped
    space, action_type = env.action_space, env.action_type
    assert (space.low.tolist(), space.high.tolist()) == ([-1, -1], [1, 1])
    raw = np.random.default_rng(2).uniform(space.low, space.high, (500, 2)).astype(np.float32)
    throttle, brake, steer = controller(ROACH)(raw).T
    for row in range(len(raw)):
        told = action_type.get_action(raw[row].astype(np.float64))
        hardest, farthest = action_type.acceleration_range[1], action_type.steering_range[1]
        assert told["acceleration"] == pytest.approx(hardest * (throttle[row] - brake[row]), abs=1e-6)
        assert told["steering"] == pytest.approx(farthest * steer[row], abs=1e-6)
    env.close()


full = st.floats(2**-7, 100, width=32)
signs = st.sampled_from([-1, 1])
share = st.floats(-2, 2, width=32)


@given(full, full, full, signs, signs, st.lists(st.tuples(share, share), min_size=1, max_size=5), st.booleans())
def test_the_way_back_from_a_control_is_the_raw_action_or_full(throttle, brake, right, way, side, shares, swapped):
    names = ("steer", "acceleration") if swapped else ("acceleration", "steer")
    bounds = dict.fromkeys(names, (-250.0, 250.0))
    fulls = {"full_throttle": way * throttle, "full_brake": -way * brake, "full_right": side * right}
    card = ActionCard("deterministic", bounds, "acceleration_steer", 10, FALLBACK, **fulls)
    assert check_action(card) == []
    given_shares = np.array(shares, np.float32)
    forward = given_shares[:, 0] * (np.where(given_shares[:, 0] > 0, throttle, brake) * way)
    by_name = {"acceleration": forward, "steer": given_shares[:, 1] * right * side}
    raw = np.stack([by_name[name] for name in names], axis=1).astype(np.float32)
    control = controller(card)(raw)
    back = inverse_controller(card)(control)
    capped = np.clip(given_shares, -1, 1)  # beyond full there is only full
    wanted = {
        "acceleration": capped[:, 0] * (np.where(capped[:, 0] > 0, throttle, brake) * way),
        "steer": capped[:, 1] * right * side,
    }
    np.testing.assert_allclose(back, np.stack([wanted[name] for name in names], axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(controller(card)(back), control, rtol=1e-5, atol=1e-6)


@given(full, full, full, st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_pedals_have_their_own_scales_and_way_back(throttle, brake, right, values):
    bounds = {"steer": (-100.0, 100.0), "brake": (0.0, 100.0), "throttle": (0.0, 100.0)}
    fulls = {"full_throttle": throttle, "full_brake": brake, "full_right": -right}
    card = ActionCard("deterministic", bounds, "throttle_brake_steer", 10, FALLBACK, **fulls)
    assert check_action(card) == []
    control = np.array([[values[0], values[1], 2 * values[2] - 1]], np.float32)
    raw = inverse_controller(card)(control)
    wanted = [-right * (2 * values[2] - 1), brake * values[1], throttle * values[0]]
    np.testing.assert_allclose(raw[0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(controller(card)(raw), control, rtol=1e-5, atol=1e-6)


def test_what_means_a_control_outside_the_raw_bounds_becomes_the_nearest_inside():
    raw = inverse_controller(GYM_CARLA)(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32))
    np.testing.assert_array_equal(raw, np.array([[-3, 0], [3, 0], [0, -0.3]], np.float32))
    full_throttle = np.array([[3.0, 0]], np.float32)
    assert controller(GYM_CARLA)(full_throttle)[0, 0] == 1  # and not a hair less: it counts as full pedal


def test_the_way_back_to_a_table_is_the_nearest_row():
    card = ActionCard("categorical", {"choice": (0, 2)}, "table", 10, FALLBACK, table=TABLE)
    raw = inverse_controller(card)(np.array([[0.9, 0, 0], [0, 1, 0], [0.4, 0, -0.8]], np.float32))
    np.testing.assert_array_equal(raw, np.array([[0], [1], [2]], np.float32))
    np.testing.assert_array_equal(controller(card)(raw)[1], [0, 1, 0])


@pytest.mark.parametrize("largest", [np.finfo(np.float32).max, -np.finfo(np.float32).max])
def test_no_raw_action_overflows(largest):
    bounds = dict.fromkeys(RAW_NAMES["acceleration_steer"], (-3e38, 3e38))
    fulls = {"full_throttle": 1e-30, "full_brake": -1e-30, "full_right": 1e-30}
    card = ActionCard("deterministic", bounds, "acceleration_steer", 10, FALLBACK, **fulls)
    control = controller(card)(np.full((1, 2), largest, np.float32))
    assert np.abs(control).max() == 1


@pytest.mark.parametrize(
    ("kind", "fulls", "complaint"),
    [
        ("acceleration_steer", {"full_throttle": 0.0}, "action.full_throttle: expected a finite float32 other than 0"),
        ("acceleration_steer", {"full_right": 1e-60}, "action.full_right: expected a finite float32 other than 0"),
        ("acceleration_steer", {"full_right": 1e39}, "action.full_right: expected a finite float32 other than 0"),
        ("acceleration_steer", {"full_brake": float("nan")}, "action.full_brake: expected a finite float32"),
        ("acceleration_steer", {"full_brake": 8.0}, "full_throttle 1 and full_brake 8 have the same sign"),
        ("acceleration_steer", {"full_throttle": -3.0}, "full_throttle -3 and full_brake -1 have the same sign"),
        ("throttle_brake_steer", {"full_brake": -1.0}, "action.full_brake: -1 lies on the other side of 0"),
        ("table", {"full_right": -1.0}, "action.full_right: control: table has no raw value to scale"),
    ],
)
def test_a_scale_that_can_not_be_meant_is_refused(kind: str, fulls: dict, complaint: str):
    bounds = {"throttle": (0, 1), "brake": (0, 1)}
    raw = {name: bounds.get(name, (-1, 1)) for name in RAW_NAMES[kind]}
    card = ActionCard("deterministic", raw, kind, 10, FALLBACK, **fulls)
    if kind == "table":
        card = ActionCard("categorical", {"choice": (0, 2)}, kind, 10, FALLBACK, table=TABLE, **fulls)
    assert complaint in "; ".join(check_action(card))
