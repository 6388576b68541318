from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from carla_mlflow import CardError, SpecError
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.frames import History
from carla_mlflow.contract.history import check_histories, frame_spec

TICKS = [-3, -2, -1, 0]


def history(**fields: FieldCard) -> History:
    assert not check_histories(fields)
    return History(SimpleNamespace(observation=fields))  # type: ignore[arg-type]  # of a card it reads only that


class Numbered(gymnasium.Env[Any, Any]):
    """Observations that all differ, in episodes of six steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Box) -> None:
        self.observation_space = space
        self.seen: list[Any] = []
        self._draw = np.random.default_rng(5)

    def _see(self) -> Any:
        drawn = self._draw.integers(1, 255, self.observation_space.shape)
        self.seen.append(drawn.astype(self.observation_space.dtype))
        return self.seen[-1]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self._see(), 0.0, self.steps == 6, False, {}


@pytest.mark.parametrize(
    ("space", "field"),
    [
        (
            spaces.Box(0, 255, (3, 36, 36), np.uint8),
            FieldCard("uint8", [12, 36, 36], 0, 255, history=TICKS, history_start="zeros"),
        ),
        (
            spaces.Box(-256, 256, (5,), np.float32),
            FieldCard("float32", [20], -256.0, 256.0, history=TICKS, history_start="zeros"),
        ),
        (
            spaces.Box(-256, 256, (1,), np.float32),
            FieldCard("float32", [4], -256.0, 256.0, history=TICKS, history_start="zeros"),
        ),
    ],
    ids=["image", "vector", "number"],
)
def test_stacks_are_those_of_stable_baselines_bit_for_bit(space: spaces.Box, field: FieldCard):
    plain = Numbered(space)
    stacked = VecFrameStack(DummyVecEnv([lambda: plain]), 4)
    theirs = [stacked.reset().copy()]
    plain_frames = [plain.seen[-1]]
    ours, ring = [], history(view=field)
    ours.append(ring.take({"view": plain_frames[0]})["view"])
    for _ in range(14):
        before = len(plain.seen)
        observation, _, done, _ = stacked.step(np.array([0]))
        theirs.append(observation.copy())
        if done[0]:  # the environment was reset at once, and the last frame is the first of the next episode
            assert len(plain.seen) == before + 2
            ring = history(view=field)
        ours.append(ring.take({"view": plain.seen[-1]})["view"])
    assert [each.tobytes() for each in ours] == [each.tobytes() for each in theirs]
    assert all(each.shape == (1, *field.shape) and each.dtype == field.dtype for each in ours)


def numbers(ring: History, *values: float) -> list[list[float]]:
    return [ring.take({"speed": value})["speed"][0].tolist() for value in values]


def test_before_the_first_tick_the_first_frame_counts_where_the_card_says_so():
    field = FieldCard("float32", [3], 0.0, 60.0, history=[-4, -1, 0], history_start="repeat")
    stacks = numbers(history(speed=field), 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert stacks == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [1, 3, 4], [1, 4, 5], [2, 5, 6]]


def test_a_tick_without_an_observation_keeps_the_frame_before():
    field = FieldCard("float32", [3], 0.0, 60.0, history=[-2, -1, 0], history_start="zeros")
    ring = history(speed=field)
    ring.hold()  # before the first frame there is none to keep
    assert numbers(ring, 1.0, 2.0) == [[0, 0, 1], [0, 1, 2]]
    ring.hold()
    with pytest.raises(SpecError, match=r"observations\[0\].speed\[0\]: nan is not a finite float32"):
        ring.take({"speed": float("nan")})
    assert numbers(ring, 3.0) == [[2, 2, 3]]


def test_a_frame_that_its_owner_changes_later_stays_as_it_was():
    field = FieldCard("float32", [4], 0.0, 60.0, history=[-1, 0], history_start="repeat")
    ring, buffer = history(speed=field), np.ones(2, np.float32)
    ring.take({"speed": buffer})
    buffer[:] = 7.0
    assert ring.take({"speed": buffer})["speed"].tolist() == [[1, 1, 7, 7]]


VIEW = FieldCard("uint8", [4, 2, 2], 0, 255, history=[-1, 0], history_start="repeat")
SPEED = FieldCard("float32", [], 0.0, 60.0)


@pytest.mark.parametrize(
    "observation",
    [
        {"view": np.full((2, 2, 2), 3, np.uint8), "speed": 4.0},
        {"view": np.full((1, 2, 2, 2), 3, np.uint8), "speed": np.array([4.0], np.float32)},
        {"view": [[[3, 3], [3, 3]], [[3, 3], [3, 3]]], "speed": np.float32(4.0)},
    ],
)
def test_one_observation_may_have_a_batch_axis_of_one_or_none(observation: dict[str, Any]):
    batch = history(view=VIEW, speed=SPEED).take(observation)
    assert batch["view"].tolist() == np.full((1, 4, 2, 2), 3).tolist()
    assert (batch["speed"].tolist(), batch["speed"].dtype) == ([4.0], np.float32)


@pytest.mark.parametrize(
    ("observation", "problem"),
    [
        ({"speed": 1.0}, "observations.view: is missing"),
        ({"view": np.zeros((2, 2, 2), np.uint8), "speed": 1.0, "more": 1}, "unknown field"),
        ({"view": np.zeros((4, 2, 2), np.uint8), "speed": 1.0}, r"view: expected shape \[rows, 2, 2, 2\]"),
        ({"view": np.zeros((2, 2, 2), np.uint8), "speed": [1.0, 2.0]}, "speed: has 2 rows; an episode takes one"),
        ({"view": np.zeros((3, 2, 2, 2), np.uint8), "speed": 1.0}, "view: has 3 rows"),
        ({"view": [[[1, 2], [1]]], "speed": 1.0}, "view: expected rows of shape"),
        ([{"speed": 1.0}], "expected one observation, as a dict"),
    ],
)
def test_what_is_no_single_observation_is_refused(observation: Any, problem: str):
    with pytest.raises(SpecError, match=problem):
        history(view=VIEW, speed=SPEED).take(observation)


def field(**changes: Any) -> FieldCard:
    return FieldCard(**{"dtype": "float32", "shape": [8], "low": -1.0, "high": 1.0} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"history": [0], "history_start": "zeros"}, "expected 2 to 64 ticks"),
        ({"history": [], "history_start": "zeros"}, "expected 2 to 64 ticks"),
        ({"history": [0, -1], "history_start": "zeros"}, "increasing, of which the last is 0"),
        ({"history": [-1, -1, 0], "history_start": "zeros"}, "increasing"),
        ({"history": [-2, -1], "history_start": "zeros"}, "the last is 0"),
        ({"history": [-1, 0, 1], "history_start": "zeros"}, "the last is 0"),
        ({"history": [-1001, 0], "history_start": "zeros"}, "from -1000 on"),
        ({"history": [-2, -1, 0], "history_start": "zeros"}, r"shape: \[8\]: the first axis .* 3 ticks"),
        ({"history": [-1, 0], "history_start": "zeros", "shape": []}, "the first axis"),
        ({"history": [-1000, 0], "history_start": "zeros", "shape": [1 << 24]}, "too many to keep"),
        ({"history": [-1, 0]}, "history_start: expected repeat or zeros"),
        ({"history_start": "zeros"}, "expected nothing where there is no history"),
    ],
)
def test_a_history_that_breaks_a_rule_is_named(wrong: dict[str, Any], problem: str):
    (found,) = check_histories({"state": field(**wrong)})
    assert re.search(problem, found)


def test_a_frames_bounds_are_those_that_hold_at_all_ticks():
    bounds = {"low": [0.0, -5.0, None, -4.0], "high": [9.0, 5.0, 8.0, None]}
    section = {"state": field(shape=[4], history=[-1, 0], history_start="repeat", **bounds)}
    (frame,) = frame_spec(section)
    assert (frame.shape, frame.low, frame.high) == ((2,), (0.0, -4.0), (8.0, 5.0))


def test_nested_bounds_and_choices_are_those_of_one_frame_too():
    nested = {"low": [[0.0], [1.0]], "high": [[5.0], [4.0]]}
    section = {"state": field(shape=[2, 3], history=[-1, 0], history_start="repeat", **nested)}
    (frame,) = frame_spec(section)
    assert (frame.shape, frame.lows.tolist(), frame.highs.tolist()) == ((1, 3), [[1.0] * 3], [[4.0] * 3])
    chosen = {"dtype": "uint8", "shape": [4], "low": 0, "high": [5, 2, 5, 2], "choices": [6, 3, 6, 3]}
    (frame,) = frame_spec({"command": FieldCard(**chosen, history=[-1, 0], history_start="repeat")})
    assert (frame.shape, frame.choices, frame.highs.tolist()) == ((2,), (6, 3), [5, 2])


def test_bounds_that_no_frame_can_meet_are_refused():
    with pytest.raises(CardError, match="zeros lie outside the bounds"):
        frame_spec({"state": field(low=0.5, history=[-1, 0], history_start="zeros")})
    apart = {"low": [0.0, 3.0], "high": [1.0, 4.0]}
    with pytest.raises(CardError, match="the bounds of all ticks have to overlap"):
        frame_spec({"state": field(shape=[2], history=[-1, 0], history_start="repeat", **apart)})
