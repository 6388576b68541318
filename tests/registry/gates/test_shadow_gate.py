"""The gate `shadow`: which policies have it, what it asks, and what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carla_mlflow import open_artifact
from registry.gates.candidate import Candidate, Champion
from registry.gates.gates import evaluate_gates
from registry.gates.shadow import (
    DEFAULT_ROWS,
    DISAGREEMENT_TAG,
    ROWS_TAG,
    ShadowBar,
    ShadowEvidence,
    evaluate_shadow,
    read_shadow_bar,
)

ENOUGH = ShadowEvidence(20_000, 40, 7, ("runs:/one", "runs:/two"))
BAR = ShadowBar(10_000, 0.01)


def judged(bar: ShadowBar, evidence: ShadowEvidence | None, champion: str | None = "a@0.1.0") -> list[tuple[bool, str]]:
    return list(evaluate_shadow(bar, evidence, "a@0.2.0", champion))


def test_a_policy_without_its_tags_has_no_such_gate(example: Path):
    assert read_shadow_bar({"gate.driving.margin": "0.1"}) is None
    card = open_artifact(example).card
    candidate = Candidate("a@0.2.0", None, card, 0.03, None)
    findings = evaluate_gates(candidate, Champion("a@0.1.0", (), None))
    assert "shadow" not in {finding.gate for finding in findings}
    asked = replace(candidate, shadow_bar=BAR, shadow=ENOUGH)
    texts = [str(finding) for finding in evaluate_gates(asked, Champion("a@0.1.0", (), None)) if finding.passed]
    assert [text for text in texts if text.startswith("shadow: ")] == [
        "shadow: 20,000 rows compared with a@0.1.0's in runs:/one and 1 more, 7 could not be",
        "shadow: 0.200% of 20,000 rows disagree with a@0.1.0, 1.000% allowed",
    ]


def test_each_tag_alone_asks_for_the_gate():
    assert read_shadow_bar({ROWS_TAG: "500"}) == ShadowBar(500, None)
    assert read_shadow_bar({DISAGREEMENT_TAG: "0.02"}) == ShadowBar(DEFAULT_ROWS, 0.02)
    assert read_shadow_bar({DISAGREEMENT_TAG: "0", ROWS_TAG: "1"}) == ShadowBar(1, 0.0)


@pytest.mark.parametrize("text", ["", "-1", "0", "1.5", "many", "9" * 40, "１"])
def test_rows_that_are_no_whole_number_above_0_fail_the_gate_by_name(text: str):
    bar = read_shadow_bar({ROWS_TAG: text})
    assert bar is not None
    assert bar.problem == f"the policy's tag {ROWS_TAG} is {text!a}, expected a whole number above 0"
    assert judged(bar, ENOUGH) == [(False, bar.problem)]


@pytest.mark.parametrize("text", ["", "-0.1", "1.1", "nan", "inf", "1 %"])
def test_a_share_outside_0_to_1_fails_the_gate_by_name(text: str):
    bar = read_shadow_bar({DISAGREEMENT_TAG: text})
    assert bar is not None
    assert bar.problem == f"the policy's tag {DISAGREEMENT_TAG} is {text!a}, expected a share from 0 to 1"


def test_it_passes_with_enough_rows_and_few_enough_disagreements():
    assert [passed for passed, _ in judged(BAR, ENOUGH)] == [True, True]
    assert [passed for passed, _ in judged(replace(BAR, max_disagreement=0.002), ENOUGH)] == [True, True]
    assert [passed for passed, _ in judged(ShadowBar(20_000), ENOUGH)] == [True]


def test_too_few_rows_and_too_many_disagreements_are_shortfalls_each():
    found = judged(ShadowBar(20_001, 0.0019), ENOUGH)
    assert [passed for passed, _ in found] == [False, False]
    assert found[0][1].endswith("at least 20,001 are needed")
    assert found[1][1] == "0.200% of 20,000 rows disagree with a@0.1.0, 0.190% allowed"
    assert [passed for passed, _ in judged(BAR, replace(ENOUGH, rows=0, disagreements=0))] == [False]


def test_a_version_that_was_no_shadow_is_told_how_to_be_one():
    [(passed, text)] = judged(BAR, None)
    assert not passed
    assert "carla-serve --model … --shadow a@0.2.0 --shadow-log" in text


def test_evidence_that_cant_be_read_fails_with_its_own_words():
    assert judged(BAR, replace(ENOUGH, problem="run x has no usable metrics")) == [
        (False, "run x has no usable metrics")
    ]


def test_the_first_champion_has_nobody_to_be_a_shadow_of():
    assert [passed for passed, _ in judged(BAR, None, champion=None)] == [True]
