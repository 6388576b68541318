"""The gates: each alone, and all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carla_mlflow import open_artifact
from carla_mlflow.contract.card import Card
from registry.gates.candidate import Candidate, Champion, shortfalls
from registry.gates.episodes import EpisodeRow, Evidence
from registry.gates.gates import evaluate_gates
from registry.gates.margins import Margins, read_margins

CONDITIONS = {
    "env": "racetrack-v1",
    "env_version": "highway-env 1.12.1, revision 1",
    "traffic": "4",
    "duration_s": "30.0",
    "first_seed": "1000000",
    "episodes": "60",
}


def rows(outcomes: str, driver: str = "policy", reward: float = 280.0) -> tuple[EpisodeRow, ...]:
    return tuple(
        EpisodeRow(driver, 1_000_000 + i, reward if letter == "." else reward / 2, letter == "c", letter == "o")
        for i, letter in enumerate(outcomes)
    )


def evidence(outcomes: str = "." * 60, run_id: str = "run1", reward: float = 280.0, **conditions: str) -> Evidence:
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
    return shortfalls(evaluate_gates(candidate, champion, **options))


def test_when_all_is_well_nothing_is_missed_and_every_gate_says_what_it_found(candidate, champion):
    findings = evaluate_gates(candidate, champion)
    assert shortfalls(findings) == ()
    assert [f.gate for f in findings] == [
        "integrity", "contract", "latency", "latency", "evidence", "evidence", "driving", "driving", "driving"
    ]  # fmt: skip
    assert str(findings[4]) == "evidence: a@0.2.0: 60 episodes in runs:/run1"


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
        f"contract: {change} (differs from a@0.1.0; --allow-breaking once the cars' code is ready)"
        for change in changes
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
        "a@0.1.0 was not evaluated: python -m training_export evaluate a@0.1.0 --log --episodes 60 "
        "--first-seed 1000000 --traffic 4 --duration 30.0"
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


def test_fifty_nine_episodes_are_too_few_and_older_evidence_is_refused_with_the_command(candidate, champion):
    [text] = missed(replace(candidate, evidence=evidence("." * 59, episodes="59")), None)
    flags = "--log --episodes 60 --first-seed 1000000 --traffic 4 --duration 30.0"
    again = f"python -m training_export evaluate a@0.2.0 {flags}"
    assert text == f"evidence: run run1 of a@0.2.0 has 59 episodes; at least 60 are needed: {again}"
    old = replace(champion, evidence=evidence("." * 20, "run0", episodes="20"))
    texts = missed(replace(candidate, evidence=None), old)
    assert ["--episodes 60" in text for text in texts] == [True, True]
    more = missed(replace(candidate, evidence=evidence("." * 200, episodes="200")), old)
    assert "at least 60 are needed: python -m training_export evaluate a@0.1.0 --log --episodes 200" in more[0]


def test_a_refusal_says_how_often_the_artifact_was_evaluated_and_how_many_episodes_would_decide(candidate, champion):
    mine = replace(evidence("c" + "." * 59), evaluations=3)
    texts = missed(replace(candidate, evidence=mine), champion)
    assert texts[0].endswith(
        "collisions in 1 of 60 episodes, of a@0.1.0 in 0: at most 7.7 percentage points more with 95% "
        "confidence, 5 allowed; with 240 episodes like these it would pass with a probability of 80 %; this artifact "
        "was evaluated 3 times, and repeating that until it passes would weaken the test"
    )
    assert "evidence: a@0.2.0: 60 episodes in runs:/run1, of 3 evaluations" in map(
        str, evaluate_gates(replace(candidate, evidence=mine), champion)
    )


def test_a_policys_own_margins_hold_and_a_narrow_one_takes_more_episodes(candidate, champion):
    narrow = replace(candidate, margins=Margins(driving=0.02))
    texts = missed(narrow, champion)
    assert [text.partition(": python")[0] for text in texts] == [
        "evidence: run run1 of a@0.2.0 has 60 episodes; at least 149 are needed",
        "evidence: run run0 of a@0.1.0 has 60 episodes; at least 149 are needed",
    ]
    assert "--episodes 149" in texts[0]
    [text] = missed(replace(narrow, evidence=None), None)
    assert text.endswith("evaluate a@0.2.0 --log --episodes 149")
    wide = Margins(driving=0.1, reward=0.2)
    slower = replace(candidate, evidence=evidence("c" + "." * 59, reward=250.0))
    assert len(missed(slower, champion)) == 3
    assert missed(replace(slower, margins=wide), champion) == ()


def test_a_margin_that_cant_be_read_is_a_shortfall(candidate, champion):
    margins = read_margins({"gate.driving.margin": "5%", "gate.reward.margin": "0.1", "protected.production": "ann"})
    assert margins.reward == 0.1
    [text] = missed(replace(candidate, margins=margins), champion)
    assert text == (
        "driving: the policy's tag gate.driving.margin is '5%', expected a share such as 0.05, above 0 and at most 0.5"
    )
    for text in ("0", "-1", "nan", "inf", "0.6", ""):
        assert read_margins({"gate.reward.margin": text}).problem


def test_without_a_champion_a_baseline_has_to_be_there_on_the_same_seeds(candidate):
    bare = replace(evidence(), drives={"policy": rows("." * 60)})
    [text] = missed(replace(candidate, evidence=bare), None)
    assert text.startswith("evidence: run run1 of a@0.2.0 has no baseline driver, which a first champion has")
    fewer = replace(evidence(), drives={"policy": rows("." * 60), "random": rows("o" * 59, "random")})
    [text] = missed(replace(candidate, evidence=fewer), None)
    assert text == "evidence: run run1 of a@0.2.0: random drove other seeds than the policy"


def own(outcomes: str = "." * 60, reward: float = -50.0, reported: bool = False, **conditions: str) -> Evidence:
    """Evidence from somebody's own environment, where x is an episode without success."""

    def drive(outcomes: str, driver: str, reward: float) -> tuple[EpisodeRow, ...]:
        return tuple(
            EpisodeRow(driver, 7 + i, reward + i % 3, letter == "c", success=letter == ".")
            for i, letter in enumerate(outcomes)
        )

    told = {"env": "my_env.py:make", "env_version": "file 1", "first_seed": "7", "episodes": "60", "success_key": "ok"}
    drives = {"policy": drive(outcomes, "policy", reward), "random": drive("x" * 60, "random", -400.0)}
    return Evidence("run7", "runs:/run7", told | conditions, drives, self_reported=reported)


def test_episodes_from_an_own_environment_are_judged_by_success_and_an_absolute_margin(candidate, champion):
    mine, theirs = own(reward=-52.0, reward_margin="25"), own(reward_margin="25")
    findings = evaluate_gates(replace(candidate, evidence=mine), replace(champion, evidence=theirs))
    assert shortfalls(findings) == ()
    assert findings[-2].text.startswith("collisions or no success in 0 of 60 episodes, of a@0.1.0 in 0")
    # A random driver got as little as -400: an episode like that may not have been seen.
    assert "at most 19 less with 95% confidence, 25 allowed" in findings[-1].text
    lost = own("x" * 30 + "." * 30, reward_margin="25")
    texts = missed(replace(candidate, evidence=lost), replace(champion, evidence=theirs))
    assert [text.partition(" in ")[0] for text in texts] == ["driving: collisions or no success"]
    texts = missed(
        replace(candidate, evidence=own(reward=-60.0, reward_margin="25")), replace(champion, evidence=theirs)
    )
    assert "at most 26.6 less with 95% confidence, 25 allowed; " in texts[0]


def test_a_reward_below_zero_has_no_share_that_is_a_margin(candidate, champion):
    [text] = missed(replace(candidate, evidence=own(reward=-52.0)), replace(champion, evidence=own()))
    assert "0 allowed" in text
    assert "can't be used: evaluate both with --reward-margin R; this artifact was" in text
    assert missed(replace(candidate, evidence=own(reward=-48.0)), replace(champion, evidence=own())) == ()


def test_the_first_champion_of_an_own_environment_is_held_against_its_baseline(candidate):
    findings = evaluate_gates(replace(candidate, evidence=own()), None)
    assert shortfalls(findings) == ()
    assert "of random actions" in findings[-1].text
    better = own()
    better.drives["baseline"] = better.drives["policy"]
    lost = replace(better, drives={**better.drives, "policy": better.drives["random"]})
    texts = missed(replace(candidate, evidence=lost), None)
    assert any("of the baseline" in text for text in texts)


def test_what_was_reported_by_somebody_is_said_to_be(candidate):
    findings = evaluate_gates(replace(candidate, evidence=own(reported=True)), None)
    assert "evidence: a@0.2.0: 60 episodes in runs:/run7 (self-reported)" in map(str, findings)


def test_evidence_in_an_own_environment_is_asked_for_by_the_command_that_drives_there(candidate, champion, card):
    [text] = missed(replace(candidate, evidence=own(env_config="it's.yaml")), replace(champion, evidence=None))
    assert text.endswith(
        "a@0.1.0 was not evaluated: python -m training_export evaluate a@0.1.0 --log --env my_env.py:make --env-config "
        "'it'\"'\"'s.yaml' --success-key ok --episodes 60 --first-seed 7"
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
    [("env", "other-v1"), ("env_version", "highway-env 2.0.0, revision 1"), ("traffic", "0"), ("duration_s", "5.0")],
)
def test_evidence_under_other_conditions_than_the_champions_is_a_shortfall(candidate, champion, key: str, value: str):
    [text] = missed(replace(candidate, evidence=evidence(**{key: value})), champion)
    assert f"a@0.1.0 was driven under other conditions than a@0.2.0 ({key} {CONDITIONS[key]} → {value})" in text
    assert "python -m training_export evaluate a@0.1.0 --log --episodes 60" in text
    assert ("&& python -m training_export evaluate a@0.2.0" in text) == (key == "env_version")


def test_other_seeds_are_a_shortfall_whatever_the_parameters_say(candidate, champion):
    shifted = tuple(msgspec.structs.replace(row, seed=row.seed + 1) for row in rows("." * 60))
    other = replace(evidence(), drives={"policy": shifted, "straight_ahead": ()})
    [text] = missed(replace(candidate, evidence=other), champion)
    assert "under other conditions than a@0.2.0 (the seeds)" in text


def test_a_version_that_collides_more_than_the_champion_is_refused(candidate, champion):
    texts = missed(replace(candidate, evidence=evidence("." * 45 + "c" * 15)), champion)
    assert texts[0].startswith(
        "driving: collisions in 15 of 60 episodes, of a@0.1.0 in 0: at most 36 percentage points more"
    )
    assert [text.partition(" in ")[0] for text in texts[:2]] == [
        "driving: collisions",
        "driving: collisions or off road",
    ]
    assert texts[2].startswith("driving: reward 245 an episode, of a@0.1.0 280")


def test_collisions_come_before_reward(candidate, champion):
    crasher = replace(champion, evidence=evidence("." * 40 + "c" * 20, "run0", reward=500.0))
    findings = evaluate_gates(candidate, crasher)
    assert shortfalls(findings) == ()
    assert findings[-1].text.startswith("significantly safer than a@0.1.0, so up to half less reward is allowed")
    rich = replace(candidate, evidence=evidence("." * 40 + "c" * 20, reward=5000.0))
    assert [text.partition(" in ")[0] for text in missed(rich, champion)][:1] == ["driving: collisions"]


def test_a_car_that_crawls_is_not_let_through_for_its_safety(candidate, champion):
    crasher = replace(champion, evidence=evidence("." * 40 + "c" * 20, "run0"))
    [text] = missed(replace(candidate, evidence=evidence(reward=20.0)), crasher)
    assert text.startswith("driving: significantly safer than a@0.1.0, so up to half less reward is allowed: reward 20")


def test_among_equally_safe_ones_reward_decides(candidate, champion):
    [text] = missed(replace(candidate, evidence=evidence(reward=200.0)), champion)
    assert text.startswith("driving: reward 200 an episode, of a@0.1.0 280: at most 89.7 less")
    assert missed(replace(candidate, evidence=evidence(reward=300.0)), champion) == ()


def test_the_first_champion_has_to_be_better_than_driving_straight_ahead(candidate):
    findings = evaluate_gates(candidate, None)
    assert shortfalls(findings) == ()
    assert [finding.text for finding in findings[-2:]] == [
        "collisions or off road in 0 of 60 episodes, of driving straight ahead in 60: significantly fewer",
        "reward 280 an episode, of driving straight ahead 3.5: significantly more",
    ]
    assert missed(replace(candidate, evidence=evidence("." * 30 + "c" * 30)), None) == ()


def test_the_first_champion_is_not_as_bad_as_driving_straight_ahead(candidate):
    as_bad = evidence("o" * 60, reward=560.0)  # earns more before it leaves the road, each time
    assert missed(replace(candidate, evidence=as_bad), None) == (
        "driving: collisions or off road in 60 of 60 episodes, of driving straight ahead in 60: not significantly "
        "fewer; this artifact was evaluated once",
    )
    luck = evidence("o" * 55 + "." * 5)
    assert missed(replace(candidate, evidence=luck), None)[0].startswith("driving: collisions or off road in 55 of 60")
    parked = evidence(reward=1.0)
    [text] = missed(replace(candidate, evidence=parked), None)
    assert text.startswith("driving: reward 1 an episode, of driving straight ahead 3.5: not significantly more")


def test_where_driving_straight_ahead_hardly_fails_the_first_champion_fails_no_more_and_earns_more(candidate):
    easy = evidence()
    easy.drives["straight_ahead"] = rows("." * 57 + "ooo", "straight_ahead", 200.0)
    assert missed(replace(candidate, evidence=easy), None) == ()
    lost = replace(easy, drives={**easy.drives, "policy": rows("c" * 10 + "." * 50)})
    assert "of driving straight ahead in 3: at most 2" in missed(replace(candidate, evidence=lost), None)[0]


def test_every_shortfall_is_listed_at_once(candidate, champion, card):
    slow = msgspec.structs.replace(card, metrics={})
    bad = replace(candidate, card=slow, decision_ms=400.0, problem="acts otherwise here", evidence=evidence("c" * 60))
    other = replace(champion, contract_changes=("action.rate_hz: 10.0 → 20.0",))
    gates = [text.partition(":")[0] for text in missed(bad, other)]
    assert gates == ["integrity", "contract", "latency", "latency", "driving", "driving", "driving"]
