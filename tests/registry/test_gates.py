"""The gates: each alone, and all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carla_mlflow import open_artifact
from carla_mlflow.card_sections import Card
from registry.episodes import EpisodeRow, Evidence
from registry.gates import Candidate, Champion, judge, shortfalls

CONDITIONS = {
    "env": "racetrack-v1",
    "env_version": "highway-env 1.12.1, code 0123abcd",
    "traffic": "4",
    "duration_s": "30.0",
    "first_seed": "10000",
    "episodes": "20",
}


def rows(outcomes: str, driver: str = "policy", reward: float = 280.0) -> tuple[EpisodeRow, ...]:
    return tuple(
        EpisodeRow(driver, 10000 + i, reward if letter == "." else reward / 2, letter == "c", letter == "o")
        for i, letter in enumerate(outcomes)
    )


def evidence(outcomes: str = "." * 20, run_id: str = "run1", reward: float = 280.0, **conditions: str) -> Evidence:
    straight = rows("o" * len(outcomes), "straight_ahead", 7.0)
    drives = {"policy": rows(outcomes, reward=reward), "straight_ahead": straight}
    return Evidence(run_id, f"runs:/{run_id}", CONDITIONS | conditions, drives)


@pytest.fixture(scope="module")
def card(example: Path) -> Card:
    return open_artifact(example).card


@pytest.fixture
def candidate(card: Card) -> Candidate:
    return Candidate("a@0.2.0", None, card, 0.03, evidence())


@pytest.fixture
def champion() -> Champion:
    return Champion("a@0.1.0", (), evidence(run_id="run0"))


def missed(candidate: Candidate, champion: Champion | None, **options: bool) -> tuple[str, ...]:
    return shortfalls(judge(candidate, champion, **options))


def test_when_all_is_well_nothing_is_missed_and_every_gate_says_what_it_found(candidate, champion):
    findings = judge(candidate, champion)
    assert shortfalls(findings) == ()
    assert [f.gate for f in findings] == [
        "integrity", "contract", "latency", "latency", "evidence", "evidence", "driving", "driving", "driving"
    ]  # fmt: skip
    assert str(findings[4]) == "evidence: a@0.2.0: 20 episodes in runs:/run1"


def test_a_version_that_does_not_load_says_why(candidate, champion):
    [text] = missed(
        replace(candidate, problem="model.pt: differs from the card", card=None, decision_ms=None), champion
    )
    assert text == "integrity: model.pt: differs from the card"


def test_each_change_of_the_contract_is_a_shortfall_unless_it_is_allowed(candidate, champion):
    changes = ("observation.sensors.shape: [12] → [16]", "action.rate_hz: 10.0 → 20.0")
    champion = replace(champion, contract_changes=changes)
    texts = missed(candidate, champion)
    assert texts == tuple(
        f"contract: {change} (differs from a@0.1.0; --allow-breaking when cars are ready)" for change in changes
    )
    assert missed(candidate, champion, allow_breaking=True) == ()


def test_a_contract_that_cant_be_compared_is_a_shortfall_even_when_breaking_is_allowed(candidate, champion):
    unread = replace(champion, contract_changes=None)
    [text] = missed(candidate, unread, allow_breaking=True)
    assert text == "contract: can't be compared: the artifact of a@0.1.0 can't be read"
    broken = replace(candidate, problem="gone", card=None, decision_ms=None)
    assert missed(broken, unread) == ("integrity: gone",)


@pytest.mark.parametrize(("said", "passes"), [(25.0, True), (25.1, False)])
def test_a_decision_takes_at_most_a_quarter_of_the_period_by_the_card(candidate, card, said: float, passes: bool):
    slow = msgspec.structs.replace(card, metrics={"latency_ms": {"cpu": {"p50": 1.0, "p99": said}}})
    texts = missed(replace(candidate, card=slow), None)
    wanted = f"latency: p99 {said:.4g} ms as the card says, 25 ms allowed (25% of the period at 10 Hz)"
    assert texts == (() if passes else (wanted,))


@pytest.mark.parametrize(("here", "passes"), [(25.0, True), (25.1, False)])
def test_a_decision_takes_at_most_a_quarter_of_the_period_on_this_machine(candidate, here: float, passes: bool):
    texts = missed(replace(candidate, decision_ms=here), None)
    wanted = f"latency: p99 {here:.4g} ms on this machine, 25 ms allowed (25% of the period at 10 Hz)"
    assert texts == (() if passes else (wanted,))


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"latency_ms": None},
        {"latency_ms": {"cpu": {}}},
        {"latency_ms": {"cpu": {"p99": "fast"}}},
        {"latency_ms": {"cpu": {"p99": True}}},
        {"latency_ms": {"cpu": {"p99": 0}}},
        {"latency_ms": {"cpu": {"p99": -1.0}}},
        {"latency_ms": {"cpu": {"p99": float("nan")}}},
    ],
)
def test_a_card_without_a_usable_latency_is_a_shortfall(candidate, card, metrics: dict[str, Any]):
    [text] = missed(replace(candidate, card=msgspec.structs.replace(card, metrics=metrics)), None)
    assert text == "latency: the card has no metrics.latency_ms.cpu.p99; export the policy again"


def test_missing_evidence_is_a_shortfall_with_the_command_that_makes_it(candidate, champion):
    [text] = missed(replace(candidate, evidence=None), None)
    assert text == "evidence: a@0.2.0 was not evaluated: python -m training_export evaluate a@0.2.0 --log"
    [text] = missed(candidate, replace(champion, evidence=None))
    assert text.endswith(
        "a@0.1.0 was not evaluated: python -m training_export evaluate a@0.1.0 --log --episodes 20 "
        "--first-seed 10000 --traffic 4 --duration 30.0"
    )
    assert len(missed(replace(candidate, evidence=None), replace(champion, evidence=None))) == 2


def test_evidence_that_cant_be_read_is_a_shortfall(candidate, champion):
    broken = Evidence("run9", "runs:/run9", CONDITIONS, {}, "episodes.json: not JSON")
    assert missed(replace(candidate, evidence=broken), None) == (
        "evidence: run run9 of a@0.2.0: episodes.json: not JSON",
    )
    assert missed(candidate, replace(champion, evidence=broken)) == (
        "evidence: run run9 of a@0.1.0: episodes.json: not JSON",
    )


def test_nineteen_episodes_are_too_few(candidate, champion):
    [text] = missed(replace(candidate, evidence=evidence("." * 19, episodes="19")), None)
    assert text == "evidence: run run1 of a@0.2.0 has 19 episodes; at least 20 are needed"


def test_without_a_champion_a_baseline_has_to_be_there_on_the_same_seeds(candidate):
    bare = replace(evidence(), drives={"policy": rows("." * 20)})
    [text] = missed(replace(candidate, evidence=bare), None)
    assert text.startswith("evidence: run run1 of a@0.2.0: no driver beside the policy, which the first champion has")
    fewer = replace(evidence(), drives={"policy": rows("." * 20), "random": rows("o" * 19, "random")})
    [text] = missed(replace(candidate, evidence=fewer), None)
    assert text == "evidence: run run1 of a@0.2.0: random drove other seeds than the policy"


def own(outcomes: str = "." * 20, reward: float = -50.0, reported: bool = False, **conditions: str) -> Evidence:
    """Evidence from somebody's own environment, where x is an episode without success."""

    def drive(outcomes: str, driver: str, reward: float) -> tuple[EpisodeRow, ...]:
        return tuple(
            EpisodeRow(driver, 7 + i, reward + i % 3, letter == "c", success=letter == ".")
            for i, letter in enumerate(outcomes)
        )

    told = {"env": "my_env.py:make", "env_version": "file 1", "first_seed": "7", "episodes": "20", "success_key": "ok"}
    drives = {"policy": drive(outcomes, "policy", reward), "random": drive("x" * 20, "random", -400.0)}
    return Evidence("run7", "runs:/run7", told | conditions, drives, self_reported=reported)


def test_episodes_from_an_own_environment_are_judged_by_success_and_an_absolute_margin(candidate, champion):
    mine, theirs = own(reward=-52.0, reward_margin="5"), own(reward_margin="5")
    findings = judge(replace(candidate, evidence=mine), replace(champion, evidence=theirs))
    assert shortfalls(findings) == ()
    assert findings[-2].text.startswith("collisions or no success in 0 of 20 episodes, of a@0.1.0 in 0")
    assert "at most 2 less with 95% confidence, 5 allowed" in findings[-1].text
    lost = own("x" * 10 + "." * 10, reward_margin="5")
    texts = missed(replace(candidate, evidence=lost), replace(champion, evidence=theirs))
    assert [text.partition(" in ")[0] for text in texts] == ["driving: collisions or no success"]
    texts = missed(
        replace(candidate, evidence=own(reward=-60.0, reward_margin="5")), replace(champion, evidence=theirs)
    )
    assert texts[0].endswith("5 allowed")


def test_a_reward_below_zero_has_no_share_that_is_a_margin(candidate, champion):
    [text] = missed(replace(candidate, evidence=own(reward=-52.0)), replace(champion, evidence=own()))
    assert "0 allowed" in text
    assert text.endswith("no share of that is a margin, evaluate with --reward-margin")
    assert missed(replace(candidate, evidence=own(reward=-48.0)), replace(champion, evidence=own())) == ()


def test_the_first_champion_of_an_own_environment_is_held_against_its_baseline(candidate):
    findings = judge(replace(candidate, evidence=own()), None)
    assert shortfalls(findings) == ()
    assert "of random actions" in findings[-1].text
    better = own()
    better.drives["baseline"] = better.drives["policy"]
    lost = replace(better, drives={**better.drives, "policy": better.drives["random"]})
    texts = missed(replace(candidate, evidence=lost), None)
    assert any("of the baseline" in text for text in texts)


def test_what_was_reported_by_somebody_is_said_to_be(candidate):
    findings = judge(replace(candidate, evidence=own(reported=True)), None)
    assert "evidence: a@0.2.0: 20 episodes in runs:/run7 (self-reported)" in map(str, findings)


def test_evidence_in_an_own_environment_is_asked_for_by_the_command_that_drives_there(candidate, champion, card):
    [text] = missed(replace(candidate, evidence=own(env_config="it's.yaml")), replace(champion, evidence=None))
    assert text.endswith(
        "a@0.1.0 was not evaluated: python -m training_export evaluate a@0.1.0 --log --env my_env.py:make --env-config "
        "'it'\"'\"'s.yaml' --success-key ok --episodes 20 --first-seed 7"
    )
    reported = own(reported=True, env_version="0.9\x1b[2J 15")
    [text] = missed(replace(candidate, evidence=reported), replace(champion, evidence=None))
    assert text.endswith(
        "python -m training_export log-evidence a@0.1.0 episodes.csv --env my_env.py:make --env-version '0.9?[2J 15'"
    )
    elsewhere = msgspec.structs.replace(card, training={})
    [text] = missed(replace(candidate, card=elsewhere, evidence=None), None)
    assert text.endswith("evaluate a@0.2.0 --log --env my_env.py:make --success-key is_success")


@pytest.mark.parametrize("key", ["env", "env_version", "success_key", "collision_key", "reward_margin"])
def test_what_counts_as_failure_is_a_condition_of_evidence_too(candidate, champion, key: str):
    [text] = missed(replace(candidate, evidence=own(**{key: "9"})), replace(champion, evidence=own()))
    assert f"under other conditions than a@0.2.0 ({key} " in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("env", "other-v1"), ("env_version", "highway-env 2.0.0, code 0123abcd"), ("traffic", "0"), ("duration_s", "5.0")],
)
def test_evidence_under_other_conditions_than_the_champions_is_a_shortfall(candidate, champion, key: str, value: str):
    [text] = missed(replace(candidate, evidence=evidence(**{key: value})), champion)
    assert f"a@0.1.0 was driven under other conditions than a@0.2.0 ({key} {CONDITIONS[key]} → {value})" in text
    assert "python -m training_export evaluate a@0.1.0 --log --episodes 20" in text
    assert ("&& python -m training_export evaluate a@0.2.0" in text) == (key == "env_version")


def test_other_seeds_are_a_shortfall_whatever_the_parameters_say(candidate, champion):
    shifted = tuple(msgspec.structs.replace(row, seed=row.seed + 1) for row in rows("." * 20))
    other = replace(evidence(), drives={"policy": shifted, "straight_ahead": ()})
    [text] = missed(replace(candidate, evidence=other), champion)
    assert "under other conditions than a@0.2.0 (the seeds)" in text


def test_a_version_that_collides_more_than_the_champion_is_refused(candidate, champion):
    texts = missed(replace(candidate, evidence=evidence("." * 15 + "c" * 5)), champion)
    assert texts[0].startswith("driving: collisions in 5 of 20 episodes, of a@0.1.0 in 0: at most 40% more")
    assert [text.partition(" in ")[0] for text in texts[:2]] == [
        "driving: collisions",
        "driving: collisions or off road",
    ]
    assert texts[2].startswith("driving: reward 245 an episode, of a@0.1.0 280")


def test_collisions_come_before_reward(candidate, champion):
    crasher = replace(champion, evidence=evidence("." * 12 + "c" * 8, "run0", reward=500.0))
    findings = judge(candidate, crasher)
    assert shortfalls(findings) == ()
    assert findings[-1].text.startswith("safer than a@0.1.0 beyond doubt, so up to half its reward may go for that")
    rich = replace(candidate, evidence=evidence("." * 12 + "c" * 8, reward=5000.0))
    assert [text.partition(" in ")[0] for text in missed(rich, champion)][:1] == ["driving: collisions"]


def test_a_car_that_crawls_is_not_let_through_for_its_safety(candidate, champion):
    crasher = replace(champion, evidence=evidence("." * 12 + "c" * 8, "run0"))
    [text] = missed(replace(candidate, evidence=evidence(reward=20.0)), crasher)
    assert text.startswith(
        "driving: safer than a@0.1.0 beyond doubt, so up to half its reward may go for that: reward 20"
    )


def test_among_equally_safe_ones_reward_decides(candidate, champion):
    [text] = missed(replace(candidate, evidence=evidence(reward=200.0)), champion)
    assert text.startswith("driving: reward 200 an episode, of a@0.1.0 280: at most 80 less")
    assert missed(replace(candidate, evidence=evidence(reward=300.0)), champion) == ()


def test_without_a_champion_a_policy_has_to_drive_no_worse_than_straight_ahead(candidate):
    assert missed(candidate, None) == ()
    lost = evidence("o" * 20, reward=2.0)  # rows that end early earn half
    [text] = missed(replace(candidate, evidence=lost), None)
    assert text.startswith("driving: reward 1 an episode, of driving straight ahead 3.5")
    assert missed(replace(candidate, evidence=evidence("." * 19 + "c")), None) == ()


def test_every_shortfall_is_listed_at_once(candidate, champion, card):
    slow = msgspec.structs.replace(card, metrics={})
    bad = replace(candidate, card=slow, decision_ms=400.0, problem="acts otherwise here", evidence=evidence("c" * 20))
    other = replace(champion, contract_changes=("action.rate_hz: 10.0 → 20.0",))
    gates = [text.partition(":")[0] for text in missed(bad, other)]
    assert gates == ["integrity", "contract", "latency", "latency", "driving", "driving", "driving"]
