"""The paired bootstrap: what it lets through, what it refuses, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.episodes import EpisodeRow
from registry.not_worse import COLLISIONS, FAILURES, REWARD, Compared, compare, paired_interval

ALL = (COLLISIONS, FAILURES, REWARD)


def drive(outcomes: str, reward: float = 280.0) -> list[EpisodeRow]:
    """An episode a letter: `.` whole, `c` collision, `o` off road; those that end early earn half."""
    return [
        EpisodeRow("policy", seed, reward if letter == "." else reward / 2, letter == "c", letter == "o")
        for seed, letter in enumerate(outcomes)
    ]


def compared(mine: list[EpisodeRow], other: list[EpisodeRow]) -> dict[str, Compared]:
    return {found.measure.name: found for found in compare(mine, other, ALL)}


drives = st.lists(st.tuples(st.sampled_from(".co"), st.floats(-100, 300)), min_size=20, max_size=40).map(
    lambda rows: [EpisodeRow("policy", i, earned, end == "c", end == "o") for i, (end, earned) in enumerate(rows)]
)


def test_the_interval_is_that_of_the_mean():
    differences = np.random.default_rng(1).normal(0.5, 1.0, (1, 400))
    [(low, high)] = paired_interval(differences)
    half = 1.645 * differences.std() / 20
    assert low == pytest.approx(differences.mean() - half, abs=0.01)
    assert high == pytest.approx(differences.mean() + half, abs=0.01)


def test_its_ends_hold_the_true_mean_as_often_as_they_say():
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        [(_, high)] = paired_interval(rng.exponential(1.0, (1, 100)) - rng.exponential(1.0, (1, 100)))
        held += high >= 0
    assert 0.90 <= held / 200 <= 0.99


def test_the_same_outcomes_are_not_worse():
    assert all(found.is_not_worse for found in compared(drive("." * 18 + "co"), drive("." * 18 + "co")).values())


def test_a_clearly_worse_policy_is_refused_and_the_text_gives_the_figures():
    found = compared(drive("." * 15 + "c" * 5), drive("." * 20))["collisions"]
    assert not found.is_not_worse
    assert not found.is_undecided
    assert found.say("a@1.0.0") == (
        "collisions in 5 of 20 episodes, of a@1.0.0 in 0: at most 40% more with 95% confidence, 5% allowed"
    )


def test_a_better_policy_is_better_beyond_doubt():
    found = compared(drive("." * 20), drive("." * 15 + "c" * 5))
    assert found["collisions"].is_better
    assert all(f.is_not_worse for f in found.values())


def test_few_episodes_with_different_outcomes_show_nothing_and_more_of_them_do():
    few = compared(drive("c" + "." * 19), drive("." * 19 + "c"))["collisions"]
    assert not few.is_not_worse
    assert few.is_undecided
    assert few.say("x").endswith("more episodes may show it")
    assert compared(drive("c" + "." * 199), drive("." * 199 + "c"))["collisions"].is_not_worse


def test_a_car_that_leaves_the_road_at_once_is_not_safer_for_never_colliding():
    found = compared(drive("o" * 20), drive("." * 12 + "c" * 8))
    assert found["collisions"].is_better
    assert not found["collisions or off road"].is_not_worse


def test_leaving_the_road_instead_of_colliding_is_no_shortfall():
    found = compared(drive("." * 15 + "o" * 5), drive("." * 15 + "c" * 5))
    assert found["collisions"].is_better
    assert found["collisions or off road"].is_not_worse


@pytest.mark.parametrize(("share", "passes"), [(1.1, True), (1.0, True), (0.97, True), (0.94, False)])
def test_a_twentieth_of_the_reward_may_be_lost(share: float, passes: bool):
    assert compared(drive("." * 20, 280 * share), drive("." * 20))["reward"].is_not_worse is passes


def test_a_reward_that_is_no_more_than_0_leaves_no_margin_but_one_of_its_own():
    reward = replace(REWARD, own_margin=5.0)
    for earned, passes in ((-104.0, True), (-106.0, False)):
        [found] = compare(drive("." * 20, earned), drive("." * 20, -100.0), [reward])
        assert found.is_not_worse is passes
        assert not compared(drive("." * 20, earned), drive("." * 20, -100.0))["reward"].is_not_worse
    assert compared(drive("." * 20, -100.0), drive("." * 20, -100.0))["reward"].is_not_worse


def test_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="the same seeds"):
        compare(drive("." * 20), drive("." * 21), ALL)
    with pytest.raises(ValueError, match="at least one"):
        compare([], [], ALL)


@settings(max_examples=40, deadline=None)
@given(drives, st.randoms(use_true_random=False))
def test_the_order_of_episodes_changes_nothing(mine: list[EpisodeRow], random):
    other = [EpisodeRow("policy", row.seed, 100.0, False, row.seed % 7 == 0) for row in mine]
    shuffled = [random.sample(rows, len(rows)) for rows in (mine, other)]
    assert compare(*shuffled, ALL) == compare(mine, other, ALL)


@settings(max_examples=40, deadline=None)
@given(drives)
def test_no_policy_is_worse_or_better_than_itself(mine: list[EpisodeRow]):
    for found in compare(mine, mine, ALL):
        assert found.is_not_worse
        assert not found.is_better
        assert (found.best, found.worst) == (0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(drives, st.data())
def test_one_more_collision_never_helps(mine: list[EpisodeRow], data):
    other = [EpisodeRow("policy", row.seed, 100.0, row.seed % 5 == 0, False) for row in mine]
    hit = data.draw(st.integers(0, len(mine) - 1))
    worse = [EpisodeRow("policy", r.seed, r.reward, r.collision or r.seed == hit, r.off_road) for r in mine]
    for before, after in zip(compare(mine, other, ALL), compare(worse, other, ALL), strict=True):
        assert after.worst >= before.worst
        assert before.is_not_worse or not after.is_not_worse


@settings(max_examples=40, deadline=None)
@given(drives)
def test_swapping_the_two_swaps_the_interval(mine: list[EpisodeRow]):
    other = [EpisodeRow("policy", row.seed, 100.0, row.seed % 5 == 0, False) for row in mine]
    for one, two in zip(compare(mine, other, ALL), compare(other, mine, ALL), strict=True):
        assert (one.best, one.worst) == pytest.approx((-two.worst, -two.best), abs=1e-9)
