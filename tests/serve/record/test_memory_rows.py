"""Which rows of a policy with memory are recorded with their state."""

from __future__ import annotations

import numpy as np

from serve.record.memory_rows import StatesGiven, state_column

DIGEST = "sha256:" + "0" * 64


def given(
    states: StatesGiven,
    episodes: list[str | None],
    minutes: list[int],
    rows: list[int] | None = None,
    reset: list[bool] | None = None,
) -> list[bool]:
    return states.given(
        DIGEST,
        episodes,
        np.array(rows or [0] * len(episodes), np.int32),
        np.array(reset or [False] * len(episodes)),
        np.array(minutes),
    ).tolist()


def test_an_episode_has_its_state_where_it_is_first_seen_and_once_a_minute():
    states = StatesGiven()
    assert given(states, ["a", "a", "b", "a"], [1, 1, 1, 2]) == [True, False, True, True]
    assert given(states, ["b", "b"], [1, 2]) == [False, True]


def test_rows_of_one_request_are_episodes_of_their_own():
    assert given(StatesGiven(), ["a", "a", "a", "a"], [1] * 4, rows=[0, 1, 0, 1]) == [True, True, False, False]


def test_without_an_episode_every_row_has_its_state_unless_it_begins():
    assert given(StatesGiven(), [None, None, None], [1] * 3, reset=[True, False, False]) == [False, True, True]


def test_an_episode_that_begins_needs_none_and_neither_do_the_rows_after_it():
    assert given(StatesGiven(), ["a", "a", "a"], [1, 1, 2], reset=[True, False, False]) == [False, False, True]


def test_a_state_that_is_not_given_is_null():
    state = np.arange(8, dtype=np.float32)
    assert state_column(state, np.array([True, False, True])).to_pylist() == [
        [0.0, 1.0, 2.0, 3.0],
        None,
        [4.0, 5.0, 6.0, 7.0],
    ]
    assert state_column(state[:0], np.array([False, False])).to_pylist() == [None, None]
