"""What evidence may judge: seeds that nobody was trained or chosen on, and the same latency for both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from carla_mlflow import open_artifact
from carla_mlflow.contract import seeds
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.figures import with_new_names
from registry.gates.candidate import Candidate, Champion, shortfalls
from registry.gates.episodes import EpisodeRow, Evidence
from registry.gates.gates import evaluate_gates
from registry.gates.latency_condition import Latency

CONDITIONS = {"env": "racetrack-v1", "env_version": "1", "traffic": "4", "duration_s": "30.0", "episodes": "60"}
FINE = {"env_version": "1, in steps of 10 ms revision 1"}


def evidence(first_seed: int, run_id: str = "run1", under: Latency | None = None, **conditions: str) -> Evidence:
    def rows(driver: str, reward: float, off_road: bool) -> tuple[EpisodeRow, ...]:
        return tuple(EpisodeRow(driver, first_seed + i, reward, False, off_road) for i in range(60))

    drives = {"policy": rows("policy", 280.0, False), "straight_ahead": rows("straight_ahead", 7.0, True)}
    told = CONDITIONS | {"first_seed": str(first_seed)} | conditions
    return Evidence(run_id, f"runs:/{run_id}", told, drives, latency=under)


@pytest.fixture(scope="module")
def card(example: Path) -> Card:
    return open_artifact(example).card


@pytest.fixture
def candidate(card: Card) -> Candidate:
    return Candidate("a@0.2.0", None, card, 0.03, evidence(seeds.PROMOTION_FIRST))


def missed(candidate: Candidate, champion: Champion | None) -> tuple[str, ...]:
    return shortfalls(evaluate_gates(candidate, champion))


def test_the_three_kinds_of_seeds_are_disjoint_and_leave_none_out():
    assert (seeds.CARD.start, seeds.CARD.stop, seeds.PROMOTION.stop) == (
        0, seeds.PROMOTION.start, seeds.TRAINING.start
    )  # fmt: skip
    assert seeds.CARD_FIRST in seeds.CARD
    assert seeds.PROMOTION_FIRST in seeds.PROMOTION
    assert all(first in seeds.TRAINING for first in (seeds.TRAINING_FIRST, seeds.SCALER_FIRST, seeds.GOLDEN_FIRST))


def test_a_policy_is_not_judged_on_the_seeds_of_its_cards_figures(candidate: Candidate, card: Card):
    assert missed(candidate, None) == ()
    told = with_new_names(card.metrics["closed_loop"])
    [text] = missed(replace(candidate, evidence=evidence(told["first_seed"])), None)
    assert text == (
        "evidence: run run1 of a@0.2.0 can't judge a promotion: the seeds of 60 of its 60 episodes are of cards' own "
        "figures (0 to 999,999), not of promotions (1,000,000 to 4,294,967,295): python -m training_export evaluate "
        "a@0.2.0 --log --episodes 60 --traffic 4 --duration 30.0"
    )


@pytest.mark.parametrize(("first", "count"), [(seeds.PROMOTION.start - 1, 1), (seeds.TRAINING.start - 59, 1)])
def test_one_episode_of_another_kind_is_too_many(candidate: Candidate, first: int, count: int):
    [text] = missed(replace(candidate, evidence=evidence(first)), None)
    assert f"the seeds of {count} of its 60 episodes are of " in text


def test_the_champion_is_held_to_the_same_seeds(candidate: Candidate):
    champion = Champion("a@0.1.0", (), evidence(10_000, "run0"))
    texts = missed(candidate, champion)
    assert texts[0].startswith("evidence: run run0 of a@0.1.0 can't judge a promotion: ")
    assert "--first-seed" not in texts[0]
    assert missed(candidate, Champion("a@0.1.0", (), evidence(seeds.PROMOTION_FIRST, "run0"))) == ()


def test_a_candidate_without_evidence_is_not_sent_to_the_cards_seeds(candidate: Candidate):
    champion = Champion("a@0.1.0", (), evidence(10_000, "run0"))
    texts = missed(replace(candidate, evidence=None), champion)
    assert texts[0].endswith("evaluate a@0.2.0 --log --episodes 60 --traffic 4 --duration 30.0")


def test_in_an_own_environment_the_seeds_that_its_training_began_with_are_refused(candidate: Candidate, card: Card):
    trained = msgspec.structs.replace(card, training={"env": "my_env.py:make", "seed": 100})
    own = {"env": "my_env.py:make", "success_key": "ok"}
    for first, judges in ((40, True), (41, False), (163, False), (164, True)):
        mine = evidence(first, **own)
        texts = missed(replace(candidate, card=trained, evidence=mine), None)
        assert (texts == ()) == judges
        if not judges:
            assert "episodes may have been used in training (100 to 163)" in texts[0]
            assert "--first-seed" not in texts[0]
    elsewhere = evidence(120, env="town05", success_key="ok")  # the training's seed says nothing of another simulator
    assert missed(replace(candidate, card=trained, evidence=elsewhere), None) == ()


def under(condition: str, run_id: str = "run1", **conditions: str) -> Evidence:
    kind = "measured" if condition.startswith("trace:") else "constant"
    latency = Latency(kind, {"p50_ms": 4.25, "p90_ms": 6.0, "p99_ms": 9.5, "max_ms": 30.0})
    return evidence(seeds.PROMOTION_FIRST, run_id, latency, latency=condition, **FINE, **conditions)


def test_evidence_under_a_latency_says_which_and_how_it_was_distributed(candidate: Candidate):
    mine = replace(candidate, evidence=under("trace:0123456789abcdef", budget_ms="50.0"))
    findings = [str(finding) for finding in evaluate_gates(mine, None)]
    assert (
        "evidence: a@0.2.0: 60 episodes in runs:/run1, at a latency of trace:0123456789abcdef (measured: p50 4.25, "
        "p90 6, p99 9.5, max 30 ms), budget 50.0 ms"
    ) in findings
    assert shortfalls(evaluate_gates(mine, Champion("a@0.1.0", (), mine.evidence))) == ()


@pytest.mark.parametrize(
    ("mine", "theirs", "said", "flags"),
    [
        ("35ms", "50ms", "latency 50ms → 35ms", "--latency 35ms"),
        ("35ms", None, "latency none → 35ms", "--latency 35ms"),
        (None, "35ms", "latency 35ms → none", "--duration 30.0"),
        ("trace:0123456789abcdef", "35ms", "latency 35ms → trace:", "--latency runs:/run1/latency.parquet"),
    ],
)
def test_only_evidence_of_the_same_latency_is_compared(
    candidate: Candidate, mine: str | None, theirs: str | None, said: str, flags: str
):
    plain = evidence(seeds.PROMOTION_FIRST)
    asked = replace(candidate, evidence=under(mine) if mine else plain)
    champion = Champion("a@0.1.0", (), under(theirs, "run0") if theirs else replace(plain, run_id="run0"))
    [text] = missed(asked, champion)
    assert "a@0.1.0 was driven under other conditions than a@0.2.0 (" in text
    assert said in text
    assert text.endswith(flags)  # the champion's command alone: the candidate's environment is there


def test_only_evidence_of_the_same_budget_is_compared(candidate: Candidate):
    asked = replace(candidate, evidence=under("35ms", budget_ms="50.0"))
    [text] = missed(asked, Champion("a@0.1.0", (), under("35ms", "run0")))
    assert "(budget_ms none → 50.0)" in text
    assert text.endswith("--latency 35ms --budget-ms 50.0")
