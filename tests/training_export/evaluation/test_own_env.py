"""A policy in an environment of its author's own: what it sees, what it does there, and what is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from own_environment import write_own_files
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from carla_mlflow import Engine
from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.control import inverse_controller
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.errors import CardError, DrivingError
from training_export.evaluation.own_driving import Outcome, drive_all, summarise
from training_export.evaluation.own_env import OwnEnv, open_own_env
from training_export.evaluation.own_evaluation import check_seeds, evaluate_own
from training_export.evaluation.own_spaces import actor, observer
from training_export.export.export import export_policy
from training_export.racetrack.conditions import Conditions
from training_export.sources.draft import FULL_BRAKE, read_draft
from training_export.sources.from_module import from_module
from training_export.sources.observation_spaces import observation_of_space, sources_of

FEW = Conditions(episodes=3, first_seed=5)
BOTH = Outcome("is_success", "crash")
SEEN = np.zeros(2, np.float32)
PEDAL = ActionCard(
    "deterministic",
    {"acceleration": (-1, 1), "steer": (-1, 1)},
    "acceleration_steer",
    10,
    FULL_BRAKE,
)
TABLE = ActionCard(
    "categorical",
    {"choice": (0, 1)},
    "table",
    10,
    FULL_BRAKE,
    table=[Control(1, 0, 0), Control(0, 0.9, 0)],
)


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_own_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A policy that steers to the middle of the author's lane."""
    folder = tmp_path_factory.mktemp("own")
    write_own_files(folder)
    draft = read_draft(folder / "card.yaml")
    return export_policy(from_module(f"{folder}/my_policy.py:build", draft), "mine", "0.1.0", "").engine


def configured(author: Path, text: str) -> Path:
    (author / "env.yaml").write_text(text)
    return author / "env.yaml"


def test_a_policy_is_driven_by_its_raw_actions_beside_random_ones_on_the_same_seeds(author: Path, engine: Engine):
    own = open_own_env("my_env.py:make", None)
    driven = evaluate_own(engine, own, FEW, BOTH, None)
    assert {name: [e.seed for e in drives] for name, drives in driven.drives.items()} == {
        "policy": [5, 6, 7],
        "random": [5, 6, 7],
    }
    assert all(episode.success and not episode.failed for episode in driven.drives["policy"])
    assert summarise(driven.drives["policy"])["steps_mean"] == 12
    first = own.env.unwrapped.taken[0]
    start = own.env.reset(seed=5)[0]
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, np.float32([0.25, np.clip(-start[0], -1, 1)]))
    again = evaluate_own(engine, open_own_env("my_env.py:make", None), FEW, BOTH, None)
    assert again.drives == driven.drives


def test_a_baseline_of_the_authors_own_drives_instead_of_random_actions(author: Path, engine: Engine):
    driven = evaluate_own(engine, open_own_env("my_env.py:make", None), FEW, BOTH, "my_env.py:still")
    own = open_own_env("my_env.py:make", None)
    starts = [abs(own.env.reset(seed=seed)[0][0]) for seed in FEW.seeds]
    assert list(driven.drives) == ["policy", "baseline"]
    assert [e.reward for e in driven.drives["baseline"]] == pytest.approx([-12 * start for start in starts], rel=1e-6)


def test_where_the_policy_refuses_what_it_sees_the_fallback_acts_as_a_raw_action(author: Path, engine: Engine):
    own = open_own_env("my_env.py:make", configured(author, "jump: 40"))
    driven = evaluate_own(engine, own, FEW, BOTH, "my_env.py:still")
    assert driven.fallbacks == 3  # once an episode: at its third step the lane seems 40 m wide
    assert "observations[0].observation[0]" in driven.reason
    np.testing.assert_array_equal(own.env.unwrapped.taken[3], np.float32([-1, 0]))  # full brake, in its own terms


def test_the_environments_version_names_package_file_and_config(author: Path):
    plain = open_own_env("my_env.py:make", None).version
    longer = open_own_env("my_env.py:make", configured(author, "length: 20")).version
    assert plain.startswith("make of file ")
    assert longer.startswith(f"{plain}, config ")
    spaced = configured(author, "{ 'length':   20 }")
    assert open_own_env("my_env.py:make", spaced).version == longer
    (author / "my_env.py").write_text((author / "my_env.py").read_text() + "\n# another reward, perhaps\n")
    assert open_own_env("my_env.py:make", None).version != plain
    known = open_own_env("highway_env:highway-fast-v0", configured(author, "config: {vehicles_count: 3}"))
    assert known.env.unwrapped.config["vehicles_count"] == 3
    assert known.version.startswith("highway-fast-v0, highway-env ")
    assert ", config " in known.version


def test_it_is_said_that_the_authors_code_runs_before_it_does(author: Path, capfd: pytest.CaptureFixture[str]):
    (author / "loud.py").write_text("import sys\nprint('hello', file=sys.stderr, flush=True)\n")
    with pytest.raises(DrivingError, match="has no 'make'; it has no function"):
        open_own_env("loud.py:make", None)
    assert capfd.readouterr().err.splitlines() == [
        "running the code of loud.py, which has all of your permissions",
        "hello",
    ]


@pytest.mark.parametrize(
    ("name", "config", "complaint"),
    [
        ("Nowhere-v0", None, "gymnasium knows no such environment; a package registers"),
        ("no_such_package:Nowhere-v0", None, "no_such_package:Nowhere-v0: raised ModuleNotFoundError"),
        ("missing.py:make", None, "there is no file 'missing.py'"),
        ("my_env.py:absent", None, "my_env.py:absent: my_env.py has no 'absent'; it has"),
        ("my_env.py:number", None, "is a int; expected a function"),
        ("my_env.py:nothing", None, "made a NoneType; expected a gymnasium.Env"),
        ("my_env.py:breaks", None, "my_env.py:breaks: raised RuntimeError: no simulator here"),
        ("my_env.py:leaves", None, "my_env.py:leaves: raised SystemExit"),
        ("my_env.py:make", "lenth: 3", "raised TypeError"),
        ("my_env.py:make", "[1, 2]", "expected the environment's keyword arguments"),
    ],
)
def test_what_is_no_environment_is_said_in_a_line(author: Path, name: str, config: str | None, complaint: str):
    with pytest.raises(DrivingError) as caught:
        open_own_env(name, configured(author, config) if config else None)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_yaml_is_refused(author: Path):
    with pytest.raises(CardError, match="invalid YAML"):
        open_own_env("my_env.py:make", configured(author, "{a: b"))


class Odd(gym.Env[Any, Any]):
    """Returns what it is told to."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, step: Any, reset: Any = None) -> None:
        self._step, self._reset = step, (SEEN, {}) if reset is None else reset

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._reset

    def step(self, action: Any) -> Any:
        if isinstance(self._step, Exception):
            raise self._step
        return self._step


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        (
            Odd((SEEN, 0.0, True, False, {"is_success": True})),
            "seed 5: no step has info['crash']; the last step has 'is_success'",
        ),
        (
            Odd((SEEN, 0.0, True, False, {"crash": False})),
            "the last step has no info['is_success']; the last step has 'crash'",
        ),
        (Odd((SEEN, 0.0, True, False, {"crash": "no", "is_success": True})), "info['crash'] is 'no'; expected true"),
        (Odd((SEEN, np.nan, True, False, {"crash": 0, "is_success": 1})), "the reward is nan; expected"),
        (Odd((SEEN, 0.0, True, {})), "step() has to return what gymnasium's does: 5 values"),
        (Odd(None, SEEN), "reset() has to return what gymnasium's does: 2 values"),
        (Odd(ValueError("simulator\nlost")), "odd, seed 5: raised ValueError: simulator lost"),
    ],
)
def test_an_episode_that_can_not_be_judged_is_refused_and_says_why(env: gym.Env[Any, Any], complaint: str):
    with pytest.raises(DrivingError) as caught:
        drive_all(OwnEnv(env, "odd", "1"), lambda _: SEEN, FEW, BOTH, "odd")
    assert complaint in str(caught.value)


def test_a_collision_at_any_step_and_of_any_strength_counts_and_without_success_only_it_does():
    class Bump(Odd):
        def step(self, action: Any) -> Any:
            self.steps = getattr(self, "steps", 0) + 1
            return SEEN, 1.0, self.steps == 3, False, {"impulse": np.float64(812.5 if self.steps == 1 else 0.0)}

    [episode] = drive_all(
        OwnEnv(Bump(None), "bump", "1"), lambda _: SEEN, Conditions(1), Outcome(None, "impulse"), "bump"
    )
    assert (episode.collision, episode.success, episode.failed, episode.steps) == (True, None, True, 3)
    assert "success_rate" not in summarise([episode])


def test_a_dict_of_boxes_is_seen_by_name_and_channels_come_first_as_in_training():
    fields = {"camera": FieldCard("uint8", [3, 4, 5], 0, 255), "speed": FieldCard("float32", [], 0, 60)}
    given = gym.spaces.Dict(
        {
            "speed": gym.spaces.Box(0, 60, (), np.float64),
            "camera": gym.spaces.Box(0, 255, (4, 5, 3), np.uint8),
            "more": gym.spaces.Box(0, 1, (9,)),
        }
    )
    seen = given.sample()
    row = observer(observation_spec(fields), given)(seen)
    assert list(row) == ["camera", "speed"]
    np.testing.assert_array_equal(row["camera"][0], seen["camera"].transpose(2, 0, 1))
    assert row["speed"].dtype == np.float32
    assert row["speed"].shape == (1,)


def test_choices_parts_of_inner_dicts_and_names_that_are_no_identifiers_are_seen_as_in_training():
    inner = gym.spaces.Dict({"gear": gym.spaces.MultiDiscrete([3, 2]), "2nd": gym.spaces.Box(0, 1, (2,))})
    space = gym.spaces.Dict({"command": gym.spaces.Discrete(6), "lidar-front": inner, "on": gym.spaces.MultiBinary(3)})
    section = observation_of_space(space)
    assert sources_of(section) == {
        "command": "command",
        "lidar_front_2nd": "lidar-front.2nd",
        "lidar_front_gear": "lidar-front.gear",
        "on": "on",
    }
    seen = space.sample()
    row = observer(observation_spec(section), space)(seen)
    np.testing.assert_array_equal(row["command"], np.uint8([seen["command"]]))
    np.testing.assert_array_equal(row["lidar_front_gear"], np.uint8([seen["lidar-front"]["gear"]]))
    np.testing.assert_array_equal(row["lidar_front_2nd"], [seen["lidar-front"]["2nd"]])
    observation_spec(section).validate(row)


def test_a_mask_comes_from_the_environments_own_function():
    specs = observation_spec(
        {"observation": FieldCard("float32", [2], 0, 1), "action_mask": FieldCard("uint8", [3], 0, 1)}
    )
    space = gym.spaces.Box(0, 1, (2,))
    row = observer(specs, space, lambda: [True, False, True])(space.sample())
    np.testing.assert_array_equal(row["action_mask"], np.uint8([[1, 0, 1]]))
    with pytest.raises(DrivingError, match="the policy sees observation, action_mask, the environment gives observ"):
        observer(specs, space)


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        (
            gym.spaces.Box(-5, 5, (2,)),
            "the policy sees speed, the environment gives observation; use the environment",
        ),
        (gym.spaces.Dict({"speed": gym.spaces.Box(0, 60, (2,))}), "gives float32[2], the policy sees float32[]"),
        (
            gym.spaces.Dict({"speed": gym.spaces.Discrete(3)}),
            "the environment gives Discrete(3), the policy sees",
        ),
    ],
)
def test_an_environment_that_shows_something_else_is_refused(space: Any, complaint: str):
    with pytest.raises(DrivingError) as caught:
        observer(observation_spec({"speed": FieldCard("float32", [], 0, 60)}), space)
    assert complaint in str(caught.value)


def test_raw_actions_go_to_the_environment_in_its_own_space():
    raw = np.float32([0.5, -0.25])
    flat = actor(PEDAL, gym.spaces.Box(-1, 1, (2, 1), np.float64))(raw)
    assert (flat.dtype, flat.tolist()) == (np.float64, [[0.5], [-0.25]])
    named = gym.spaces.Dict({"steer": gym.spaces.Box(-1, 1, ()), "acceleration": gym.spaces.Box(-1, 1, (1,))})
    taken = actor(PEDAL, named)(raw)
    assert named.contains(taken)
    assert (float(taken["steer"]), taken["acceleration"].tolist()) == (-0.25, [0.5])
    assert actor(TABLE, gym.spaces.Discrete(2, start=7))(np.float32([1])) == 8
    fallback = inverse_controller(TABLE)(np.float32([[0, 1, 0]]))[0]
    assert actor(TABLE, gym.spaces.Discrete(2))(fallback) == 1
    own = msgspec.structs.replace(
        PEDAL, raw={"acceleration": (-3, 3), "steer": (-0.3, 0.3)}, full_throttle=3, full_brake=-8, full_right=-0.3
    )
    space = gym.spaces.Box(np.float32([-3, -0.3]), np.float32([3, 0.3]))
    braking = actor(own, space)(inverse_controller(own)(np.float32([[0, 0.25, 1]]))[0])
    np.testing.assert_array_equal(braking, np.float32([-2, -0.3]))


@pytest.mark.parametrize(
    ("action", "space", "complaint"),
    [
        (PEDAL, gym.spaces.Box(-1, 1, (3,)), "takes 3 numbers, the policy gives acceleration, steer"),
        (
            PEDAL,
            gym.spaces.Box(-0.5, 1, (2,)),
            "action acceleration: the policy gives -1 to 1, the environment takes -0.5",
        ),
        (
            PEDAL,
            gym.spaces.Box(-3, 3, (2,)),
            "action acceleration: the policy gives -1 to 1, the environment takes -3",
        ),
        (PEDAL, gym.spaces.Box(-1, 1, (2,), np.int8), "takes a Box of int8"),
        (PEDAL, gym.spaces.Discrete(2), "offers 2 choices, the policy gives acceleration, steer"),
        (PEDAL, gym.spaces.MultiBinary(2), "offers 2 × 2 choices, the policy gives acceleration, steer"),
        (PEDAL, gym.spaces.Dict({"steer": gym.spaces.Box(-1, 1, ())}), "takes steer, the policy gives acceleration"),
        (TABLE, gym.spaces.Discrete(3), "offers 3 choices, the policy gives 2 choices from a table"),
        (TABLE, gym.spaces.Box(-1, 1, (2,)), "takes a Box, the policy gives 2 choices from a table"),
    ],
)
def test_an_environment_that_takes_something_else_is_refused(action: ActionCard, space: Any, complaint: str):
    with pytest.raises(DrivingError) as caught:
        actor(action, space)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("seed", "meets"), [(9_950, True), (10_000, True), (10_002, True), (10_003, False), (0, False)]
)
def test_seeds_that_training_began_with_judge_nobody(seed: int, meets: bool):
    conditions = Conditions(episodes=3, first_seed=10_000)
    if meets:
        with pytest.raises(DrivingError, match="--first-seed"):
            check_seeds({"seed": seed}, conditions)
    else:
        check_seeds({"seed": seed}, conditions)
    check_seeds({}, conditions)


STACKED_CARD = """
name: mine
version: 0.1.0
observation:
  observation: {dtype: float32, shape: [8], low: -5, high: 5, history: [-3, -2, -1, 0], history_start: zeros}
action:
  head: deterministic
  raw: {acceleration: [-1, 1], steer: [-1, 1]}
  control: acceleration_steer
  rate_hz: 10
"""
STACKED_POLICY = """
import torch

class Stacked(torch.nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([[1, 2, -3, 1, 2, -1, -2, 3], [1, -1, 2, 3, -2, 1, -4, 1]]) / 10.0
        return torch.tanh(observation @ weights.T)

def build():
    return Stacked()
"""


def stacked_engine(folder: Path, repeat: str = "") -> Engine:
    (folder / "stacked.py").write_text(STACKED_POLICY)
    (folder / "stacked.yaml").write_text(STACKED_CARD + repeat)
    draft = read_draft(folder / "stacked.yaml")
    return export_policy(from_module(f"{folder}/stacked.py:build", draft), "mine", "0.1.0", "").engine


def test_a_policy_that_was_trained_on_stacks_is_driven_in_the_plain_environment_as_on_stacks(author: Path):
    engine, own = stacked_engine(author), open_own_env("my_env.py:make", None)
    evaluate_own(engine, own, FEW, BOTH, "my_env.py:still")

    plain = open_own_env("my_env.py:make", None).env
    stacked = VecFrameStack(DummyVecEnv([lambda: plain]), 4)
    wanted = []
    for seed in FEW.seeds:
        stacked.seed(seed)
        seen, done = stacked.reset(), [False]
        while not done[0]:
            wanted.append(engine.act({"observation": seen.copy()}).raw)
            seen, _, done, _ = stacked.step(wanted[-1])
    assert np.stack(own.env.unwrapped.taken[: len(wanted)]).tobytes() == np.concatenate(wanted).tobytes()


def test_an_action_that_holds_is_given_to_each_of_its_ticks(author: Path):
    engine, own = stacked_engine(author, "  repeat: 3\n"), open_own_env("my_env.py:make", None)
    evaluate_own(engine, own, Conditions(episodes=1, first_seed=5), BOTH, "my_env.py:still")
    taken = [action.tobytes() for action in own.env.unwrapped.taken[:12]]
    assert taken == [taken[at - at % 3] for at in range(12)]
    assert len(set(taken)) == 4
