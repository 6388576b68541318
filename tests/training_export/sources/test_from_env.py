"""What environments of highway-env say about their actions, and how raw actions are handed back to an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import highway_env  # noqa: F401  # registers its environments
import msgspec
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium import spaces
from sb3_policies import VECTOR, Toy
from without_pedals import KINDS

from carla_mlflow.errors import CardError, DrivingError
from training_export.evaluation.own_spaces import actor, check_labels
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_env import action_of_env, labels_of_env, with_env
from training_export.sources.source import SourceOptions, open_source
from training_export.sources.spaces import action_of_space

META = ["LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER"]


def highway(kind: str, **parts: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("highway-fast-v0", config={"action": {"type": kind, **parts}, "policy_frequency": 5})


@pytest.mark.parametrize(
    ("parts", "labels", "fallback"),
    [
        ({}, META, "SLOWER"),
        ({"lateral": False}, ["SLOWER", "IDLE", "FASTER"], "SLOWER"),
        ({"longitudinal": False}, ["LANE_LEFT", "IDLE", "LANE_RIGHT"], "IDLE"),
    ],
)
def test_meta_actions_have_the_environments_labels(parts: dict[str, Any], labels: list[str], fallback: str):
    env = highway("DiscreteMetaAction", **parts)
    assert labels_of_env(env) == labels
    assert action_of_env(env) == ActionDraft("named", rate_hz=5.0, fallback={"choice": fallback}, choices=labels)


@pytest.mark.parametrize(
    ("parts", "control", "raw"),
    [
        ({}, "acceleration_steer", ["acceleration", "steer"]),
        ({"lateral": False}, "acceleration", ["acceleration"]),
        ({"longitudinal": False}, "steer", ["steer"]),
    ],
)
def test_continuous_actions_decide_what_the_environment_takes(parts: dict[str, Any], control: str, raw: list[str]):
    env = highway("ContinuousAction", **parts)
    found = action_of_env(env)
    assert found is not None
    assert (found.control, found.raw, found.rate_hz) == (control, raw, 5.0)
    head, bounds, named = action_of_space(env.action_space)
    action = complete(named(found), head or "gaussian", bounds)
    np.testing.assert_array_equal(actor(action, env.action_space)(action.bounds[1]), env.action_space.high)


def test_the_author_has_the_last_word_and_other_environments_say_nothing():
    env = highway("DiscreteMetaAction")
    own = CardDraft(ActionDraft("named", fallback={"choice": "IDLE"}, rate_hz=2.0), training={"steps": 3})
    completed = with_env(own, env, "highway-v0")
    assert completed.action == msgspec.structs.replace(own.action, choices=META)
    assert completed.training == {"env": "highway-v0", "steps": 3}
    table = CardDraft(ActionDraft("table", table=[]))
    assert with_env(table, env, "x").action == table.action
    assert action_of_env(gymnasium.make("CartPole-v1")) is None


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"acceleration_range": [-5, 3]}, r"--env hw: its acceleration_range is \[-5, 3\], .*control: named"),
        ({"acceleration_range": [5, -5], "lateral": False}, "acceleration_range is .*turned round"),
        ({"steering_range": [0.5, -0.5]}, "steering_range is .*turned round"),
        ({"steering_range": [-0.5, 0.6], "longitudinal": False}, "steering_range is"),
    ],
)
def test_ranges_in_which_0_is_not_the_middle_are_no_pedals(parts: dict[str, Any], complaint: str):
    env = highway("ContinuousAction", **parts)
    with pytest.raises(CardError, match=complaint):
        with_env(CardDraft(), env, "hw")
    own = CardDraft(ActionDraft("named", ["a", "b"], fallback={"a": 0, "b": 0}))
    assert with_env(own, env, "hw").action == own.action


def test_ranges_that_the_policy_does_not_decide_in_are_not_looked_at():
    env = highway("ContinuousAction", acceleration_range=[-5, 3], longitudinal=False, steering_range=[-0.3, 0.3])
    assert action_of_env(env).control == "steer"


def test_a_positive_steering_angle_steers_to_the_right_in_highway_env():
    env = highway("ContinuousAction")
    env.reset(seed=0)
    car = env.unwrapped.vehicle
    before = car.position[1]
    env.step(np.array([0.0, 0.3], np.float32))
    assert car.position[1] > before, "y is to the right of x, as lanes are counted"


def with_other_env(path: Path, env: gymnasium.Env[Any, Any], name: str) -> SourceOptions:
    return SourceOptions(str(path), trust_pickle=True, no_vecnormalize=True, env=env, env_name=name)


@pytest.mark.parametrize(
    ("space", "env", "complaint"),
    [
        (
            spaces.Discrete(3),
            ("DiscreteMetaAction", {}),
            r"--env hw takes 5 choices \(LANE_LEFT, .*\), the policy gives 3 choices; pass the --env-config",
        ),
        (
            spaces.Discrete(5),
            ("ContinuousAction", {}),
            "--env hw takes acceleration, steer, the policy gives 5 choices; pass the --env-config of training",
        ),
        (
            spaces.Box(-1, 1, (2,)),
            ("ContinuousAction", {"lateral": False}),
            r"--env hw takes acceleration, the policy gives 2 numbers \(-1 to 1, -1 to 1\); pass the --env-config",
        ),
        (
            spaces.Box(-1, 1, (2,)),
            ("DiscreteMetaAction", {}),
            r"--env hw takes 5 choices .*, the policy gives 2 numbers .*; pass the --env-config",
        ),
    ],
)
def test_a_policy_of_another_environment_is_told_so_and_no_card_is_blamed(
    space: spaces.Space[Any], env: tuple[str, dict[str, Any]], complaint: str, tmp_path: Path
):
    sb3.A2C("MlpPolicy", Toy(VECTOR, space), device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(CardError, match=complaint):
        open_source(with_other_env(tmp_path / "model.zip", highway(env[0], **env[1]), "hw"))


def test_an_environment_that_does_not_say_what_actions_mean_is_named(tmp_path: Path):
    sb3.A2C("MlpPolicy", Toy(VECTOR, spaces.Discrete(2)), device="cpu").save(tmp_path / "model.zip")
    complaint = "--env CartPole-v1: not highway-env's DiscreteMetaAction or ContinuousAction, .*; pass --card FILE"
    with pytest.raises(CardError, match=complaint):
        open_source(with_other_env(tmp_path / "model.zip", gymnasium.make("CartPole-v1"), "CartPole-v1"))


def test_an_action_goes_to_the_environment_in_the_type_of_its_space():
    labelled, several, flags = (complete(KINDS[name].draft) for name in ("labelled", "several", "flags"))
    chosen = actor(labelled, spaces.Discrete(3, start=2))(np.array([1.0], np.float32))
    assert (type(chosen), chosen) == (int, 3)
    for action, space in ((several, spaces.MultiDiscrete([3, 2])), (flags, spaces.MultiBinary(2))):
        given = actor(action, space)(np.array([1.0, 0.0], np.float32))
        assert space.contains(given)
        assert given.tolist() == [1, 0]
    offset = actor(several, spaces.MultiDiscrete([3, 2], start=[5, 1]))(np.array([2.0, 1.0], np.float32))
    assert offset.tolist() == [7, 2]


@pytest.mark.parametrize(
    ("name", "space", "complaint"),
    [
        ("labelled", spaces.Discrete(5), "offers 5 choices, the policy gives 3 choices"),
        ("labelled", spaces.MultiDiscrete([3]), "offers 3 choices, the policy gives 3 choices"),
        ("several", spaces.MultiDiscrete([2, 3]), "offers 2 × 3 choices, the policy gives 3 × 2 choices"),
        ("several", spaces.Box(-1, 1, (2,)), "takes a Box, the policy gives 3 × 2 choices"),
        ("values", spaces.MultiBinary(2), "offers 2 × 2 choices, the policy gives longitudinal, lateral"),
        ("steer", spaces.Box(-1, 1, (1,)), "action steer: the policy gives -0.5 to 0.5"),
    ],
)
def test_an_environment_of_other_choices_is_refused(name: str, space: spaces.Space[Any], complaint: str):
    with pytest.raises(DrivingError, match=complaint):
        actor(complete(KINDS[name].draft), space)


def test_an_environment_with_other_labels_is_refused():
    action = complete(KINDS["labelled"].draft)
    check_labels(action, ["LEFT", "IDLE", "RIGHT"])
    check_labels(action, None)
    with pytest.raises(DrivingError, match="offers RIGHT, IDLE, LEFT, the policy chooses among LEFT, IDLE, RIGHT"):
        check_labels(action, ["RIGHT", "IDLE", "LEFT"])


def test_spaces_of_several_choices_need_only_names():
    head, bounds, named = action_of_space(spaces.MultiDiscrete([3, 2]))
    draft = ActionDraft("named", ["gear", "lights"], fallback={"gear": 0, "lights": 1})
    assert complete(named(draft), head, bounds).raw == {"gear": (0.0, 2.0), "lights": (0.0, 1.0)}
    head, bounds, named = action_of_space(spaces.Discrete(3))
    alone = complete(named(ActionDraft("named", fallback={"choice": 1})), head, bounds)
    assert (alone.head, alone.raw) == ("categorical", {"choice": (0.0, 2.0)})
    head, bounds, named = action_of_space(spaces.Box(-1, 1, (1,)))
    assert complete(named(ActionDraft("steer", head="gaussian")), head, bounds).raw == {"steer": (-1.0, 1.0)}
