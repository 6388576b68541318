"""No worse than another: what is let through, what is refused, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gates import chance_of
from registry.gates.episodes import EpisodeRow
from registry.gates.measures import COLLISIONS, FAILURES, REWARD
from registry.gates.not_worse import PairedComparison, compare, reward_bar

ALL = (COLLISIONS, FAILURES, REWARD)


def drive(outcomes: str, reward: float = 280.0) -> list[EpisodeRow]:
    """An episode a letter: `.` whole, `c` collision, `o` off road; those that end early earn half."""
    return [
        EpisodeRow("policy", seed, reward if letter == "." else reward / 2, letter == "c", letter == "o")
        for seed, letter in enumerate(outcomes)
    ]


def compared(mine: list[EpisodeRow], other: list[EpisodeRow]) -> dict[str, PairedComparison]:
    return {found.measure.name: found for found in compare(mine, other, ALL)}


drives = st.lists(st.tuples(st.sampled_from(".co"), st.floats(-100, 300)), min_size=60, max_size=80).map(
    lambda rows: [EpisodeRow("policy", i, earned, end == "c", end == "o") for i, (end, earned) in enumerate(rows)]
)


def test_sixty_episodes_with_the_same_outcomes_are_not_worse():
    mine = drive("." * 58 + "co")
    assert all(found.is_not_worse for found in compared(mine, mine).values())


def test_fewer_show_nothing_though_all_went_alike():
    found = compared(drive("." * 20), drive("." * 20))
    assert not any(f.is_not_worse for f in found.values())
    assert found["collisions"].say("a@1.0.0") == (
        "collisions in 0 of 20 episodes, of a@1.0.0 in 0: at most 14 percentage points more with 95% "
        "confidence, 5 allowed; "
        "with 60 episodes like these it would pass with a probability of 80 %"
    )


def test_a_clearly_worse_policy_is_refused_and_the_text_gives_the_figures():
    found = compared(drive("." * 55 + "c" * 5), drive("." * 60))["collisions"]
    assert not found.is_not_worse
    assert found.say("a@1.0.0") == (
        "collisions in 5 of 60 episodes, of a@1.0.0 in 0: at most 17 percentage points more with 95% confidence, "
        "5 allowed"
    )


def test_a_reward_of_nothing_is_told_as_0():
    nothing = drive("." * 60, reward=0.0)
    assert compared(nothing, nothing)["reward"].figures("a@1.0.0") == "reward 0 an episode, of a@1.0.0 0"


def test_a_better_policy_is_better_beyond_doubt():
    found = compared(drive("." * 60), drive("." * 52 + "c" * 8))
    assert found["collisions"].is_better
    assert all(f.is_not_worse for f in found.values())


def test_five_failures_less_may_be_luck_and_six_are_none():
    for fewer, better in ((5, False), (6, True)):
        found = compared(drive("." * 60), drive("." * (60 - fewer) + "c" * fewer))["collisions"]
        assert found.is_better is better
        assert found.can_be_better is better


def test_a_policy_that_is_safer_by_luck_may_not_lose_half_the_reward_for_it():
    found = compared(drive("." * 60, 200.0), drive("." * 57 + "c" * 3, 280.0))
    assert not reward_bar([found["collisions"]], found["reward"]).is_not_worse
    found = compared(drive("." * 60, 200.0), drive("." * 52 + "c" * 8, 280.0))
    assert reward_bar([found["collisions"]], found["reward"]).is_not_worse


def test_few_episodes_with_different_outcomes_show_nothing_and_as_many_as_it_says_do():
    few = compared(drive("c" + "." * 59), drive("." * 59 + "c"))["collisions"]
    assert not few.is_not_worse
    needed = few.needed()
    assert needed is not None
    assert f"with {needed} episodes like these it would pass with a probability of 80 %" in few.say("x")
    each = round(needed / 60)
    many = compared(drive("c" * each + "." * (needed - each)), drive("." * (needed - each) + "c" * each))
    assert many["collisions"].is_not_worse
    assert chance_of(needed, 1 / 60, 1 / 60) == pytest.approx(0.8, abs=0.07)


def test_how_many_would_decide_is_told_of_rewards_too():
    noisy = [EpisodeRow("policy", seed, 270.0 + 60 * (seed % 2), False, False) for seed in range(60)]
    found = compared(noisy, drive("." * 60, 305.0))["reward"]
    assert not found.is_not_worse
    needed = found.needed()
    assert needed is not None
    assert 60 < needed < 2000
    again = [EpisodeRow("policy", seed, 270.0 + 60 * (seed % 2), False, False) for seed in range(needed)]
    assert compared(again, drive("." * needed, 305.0))["reward"].is_not_worse


def test_what_was_seen_to_be_worse_by_more_than_the_margin_needs_no_more_episodes():
    found = compared(drive("." * 50 + "c" * 10), drive("." * 60))
    assert found["collisions"].needed() is None
    assert found["reward"].needed() is None
    assert "would show" not in found["collisions"].say("x")


def test_an_episode_that_was_not_seen_may_lose_all_of_the_reward():
    mine, other = drive("." * 60, 279.0), drive("." * 60, 280.0)
    assert compared(mine, other)["reward"].worst == pytest.approx(1 + 279 * (1 - 0.05 ** (1 / 60)), rel=1e-3)
    [found] = compare(mine, other, [REWARD], least_reward=-280.0)
    assert found.worst == pytest.approx(1 + 559 * (1 - 0.05 ** (1 / 60)), rel=1e-3)


def test_a_car_that_leaves_the_road_at_once_is_not_safer_for_never_colliding():
    found = compared(drive("o" * 60), drive("." * 52 + "c" * 8))
    assert found["collisions"].is_better
    assert not found["collisions or off road"].is_not_worse


def test_leaving_the_road_instead_of_colliding_is_no_shortfall():
    found = compared(drive("." * 52 + "o" * 8), drive("." * 52 + "c" * 8))
    assert found["collisions"].is_better
    assert found["collisions or off road"].is_not_worse


@pytest.mark.parametrize(("share", "passes"), [(1.1, True), (1.0, True), (0.97, True), (0.94, False)])
def test_a_twentieth_of_the_reward_may_be_lost(share: float, passes: bool):
    assert compared(drive("." * 200, 280 * share), drive("." * 200))["reward"].is_not_worse is passes


def test_a_reward_that_is_no_more_than_0_leaves_no_margin_but_one_of_its_own():
    reward = replace(REWARD, own_margin=5.0)
    for earned, passes in ((-104.0, True), (-106.0, False)):
        [found] = compare(drive("." * 60, earned), drive("." * 60, -100.0), [reward])
        assert found.is_not_worse is passes
        assert not compared(drive("." * 60, earned), drive("." * 60, -100.0))["reward"].is_not_worse
    assert compared(drive("." * 60, -100.0), drive("." * 60, -100.0))["reward"].is_not_worse


def test_other_seeds_are_not_compared():
    with pytest.raises(ValueError, match="the same seeds"):
        compare(drive("." * 20), drive("." * 21), ALL)
    with pytest.raises(ValueError, match="at least one"):
        compare([], [], ALL)


@settings(max_examples=15, deadline=None)
@given(drives, st.randoms(use_true_random=False))
def test_the_order_of_episodes_changes_nothing(mine: list[EpisodeRow], random):
    other = [EpisodeRow("policy", row.seed, 100.0, False, row.seed % 7 == 0) for row in mine]
    shuffled = [random.sample(rows, len(rows)) for rows in (mine, other)]
    assert compare(*shuffled, ALL) == compare(mine, other, ALL)


@settings(max_examples=15, deadline=None)
@given(drives)
def test_no_policy_is_worse_or_better_than_itself(mine: list[EpisodeRow]):
    for found in compare(mine, mine, ALL):
        assert found.is_not_worse
        assert not found.is_better
        assert found.worst >= 0


@settings(max_examples=15, deadline=None)
@given(drives, st.data())
def test_one_more_collision_never_helps(mine: list[EpisodeRow], data):
    other = [EpisodeRow("policy", row.seed, 100.0, row.seed % 5 == 0, False) for row in mine]
    hit = data.draw(st.integers(0, len(mine) - 1))
    worse = [EpisodeRow("policy", r.seed, r.reward, r.collision or r.seed == hit, r.off_road) for r in mine]
    for before, after in zip(compare(mine, other, ALL), compare(worse, other, ALL), strict=True):
        assert after.worst >= before.worst
        assert before.is_not_worse or not after.is_not_worse
