from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from msgspec import UNSET

from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.errors import CardError
from training_export.sources.observation_spaces import (
    observation_of_space,
    parts_of_observation,
    sources_of,
    with_sources,
)


def field(space: Any) -> FieldCard:
    return observation_of_space(space)["observation"]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(6), FieldCard("uint8", [], 0, 5, choices=6)),
        (spaces.Discrete(3, start=250), FieldCard("uint8", [], 250, 252, choices=3)),
        (spaces.Discrete(256), FieldCard("uint8", [], 0, 255, choices=256)),
        (spaces.Discrete(257), FieldCard("float32", [], 0, 256, choices=257)),
        (spaces.Discrete(3, start=-1), FieldCard("float32", [], -1, 1, choices=3)),
        (spaces.MultiDiscrete([3, 2]), FieldCard("uint8", [2], 0, [2, 1], choices=[3, 2])),
        (spaces.MultiDiscrete([3, 500]), FieldCard("float32", [2], 0, [2, 499], choices=[3, 500])),
        (spaces.MultiBinary(4), FieldCard("uint8", [4], 0, 1)),
        (spaces.MultiBinary([2, 3]), FieldCard("uint8", [2, 3], 0, 1)),
    ],
)
def test_choices_are_whole_numbers_as_the_environment_gives_them(space: Any, expected: FieldCard):
    assert field(space) == expected
    [spec] = observation_spec({"observation": expected})
    spec.validate(np.asarray([space.sample() for _ in range(20)]).astype(spec.dtype))


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        (spaces.Discrete(2**25), "choices up to 33,554,431; at most 16,777,216"),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), r"a MultiDiscrete of shape \[2, 2\]; flatten it"),
        (spaces.Text(5), "a Text; expected a Box, Discrete, MultiDiscrete or MultiBinary"),
        (spaces.Dict({"a-b": spaces.Discrete(2), "a_b": spaces.Discrete(2)}), "would both be called a_b; name them in"),
        (spaces.Dict({"a" * 65: spaces.Discrete(2)}), "a name of 65 characters, at most 64; .* `source: aaa"),
        (spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})}), "a.b: two parts"),
        (spaces.Box(np.arange(-20_000, 0, dtype=np.float32), 0), "20,000 different bounds, at most 10,000"),
    ],
)
def test_what_can_be_no_field_is_refused_by_name(space: Any, complaint: str):
    with pytest.raises(CardError, match=complaint):
        observation_of_space(space)


def test_names_that_are_no_identifiers_and_parts_of_inner_dicts_keep_their_names_as_sources():
    space = spaces.Dict(
        {"lidar-front": spaces.Box(0, 1, (3,)), "ego": spaces.Dict({"2nd": spaces.Discrete(2), "v": spaces.Box(0, 1)})}
    )
    section = observation_of_space(space)
    named = {"ego_2nd": "ego.2nd", "ego_v": "ego.v", "lidar_front": "lidar-front"}
    assert sources_of(section) == named
    assert set(parts_of_observation(space.sample())) == set(named.values())
    assert observation_of_space(spaces.Discrete(2))["observation"].source is UNSET


def test_an_authors_fields_find_their_sources_by_their_identifiers():
    section = {"lidar_front": FieldCard("float32", [3]), "rear": FieldCard("float32", [3], source="lidar-rear")}
    completed = with_sources(section, ["lidar-front", "lidar-rear", "speed"])
    assert sources_of(completed) == {"lidar_front": "lidar-front", "rear": "lidar-rear"}


def box(low: Any, high: Any, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(np.asarray(low, dtype), np.asarray(high, dtype), dtype=dtype)


def test_bounds_that_differ_along_several_axes_are_nested_and_may_be_open():
    each = box([[0, -np.inf], [2, 3]], [[1, 2], [np.inf, 4]])
    assert (field(each).low, field(each).high) == ([[0, None], [2, 3]], [[1, 2], [None, 4]])
    channels = box(np.zeros((2, 3, 4)), np.float32([[[1]], [[5]]]) * np.ones((2, 3, 4)))
    assert (field(channels).low, field(channels).high) == (0, [[[1]], [[5]]])
    last = box([[0, 1], [0, 1]], [[9, 9], [9, 9]])
    assert (field(last).low, field(last).high) == ([0, 1], 9)
    assert field(box([[0, 5]], [[9, 9]], np.uint8)) == FieldCard("uint8", [1, 2], [0, 5], 9)
    for space in (each, channels, last):
        [spec] = observation_spec({"observation": field(space)})
        np.testing.assert_array_equal(np.broadcast_to(spec.lows, spec.shape), np.maximum(space.low, -3.4028235e38))
