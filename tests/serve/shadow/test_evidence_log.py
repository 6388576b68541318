"""Which run the shadow's findings are logged to, while MLflow hangs or fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from following_support import until_true
from patience import PATIENCE_S

from carla_mlflow import Artifact
from serve.shadow import evidence_log
from serve.shadow.evidence_log import EvidenceLog, Finding
from serve.shadow.tally import Pair, SavedTally, Tally


class FakeMlflow:
    """Takes findings, hangs and fails when it is told to; the run of a version is named after it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int, str | None]] = []
        self.answers, self.fails = threading.Event(), False
        self.answers.set()

    def __call__(self, finding: Finding) -> str:
        assert self.answers.wait(PATIENCE_S)
        if self.fails:
            raise OSError("no MLflow")
        self.taken.append((finding.digest, finding.counts["rows"], finding.run))
        return finding.run or f"run of {finding.digest}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    found = FakeMlflow()
    for name, seconds in (("FIRST_S", 0.0), ("LOG_S", 0.0), ("DEADLINE_S", 0.05)):
        monkeypatch.setattr(evidence_log, name, seconds)
    monkeypatch.setattr(evidence_log, "log_finding", found)
    return found


@pytest.fixture
def begin(champion: Artifact) -> Callable[..., Pair]:
    """Begins to count for a version, which has compared some rows with the champion."""

    def begin(tally: Tally, digest: str, rows: int) -> Pair:
        tally.begin(digest)
        pair = tally.pair(champion.card, champion.digest)
        pair.rows = rows
        return pair

    return begin


def serving(artifact: Artifact, digest: str) -> Any:
    return SimpleNamespace(card=artifact.card, digest=digest)


def test_what_a_hanging_mlflow_answers_late_is_the_run_of_the_version_that_asked(
    fake: FakeMlflow, champion: Artifact, begin: Callable[..., Pair]
):
    tally = Tally(SavedTally())
    log = EvidenceLog(tally, "mine@staging", 1.0)
    first, one, two = begin(tally, "1", 5), serving(champion, "1"), serving(champion, "2")
    fake.answers.clear()
    log.update_soon(one)
    log.finish(one)
    second = begin(tally, "2", 3)
    log.update_soon(two)
    fake.answers.set()

    def is_logged() -> bool:
        log.update_soon(two)
        return len(fake.taken) == 3

    until_true(is_logged)
    assert fake.taken == [("1", 0, None), ("2", 0, None), ("2", 3, "run of 2")]
    assert (first.run, second.run) == ("run of 1", "run of 2")


def test_the_next_version_gets_a_run_also_where_the_one_before_got_no_further_than_its_own(
    fake: FakeMlflow, champion: Artifact, begin: Callable[..., Pair]
):
    tally = Tally(SavedTally())
    log = EvidenceLog(tally, "mine@staging", 1.0)
    first, one, two = begin(tally, "1", 5), serving(champion, "1"), serving(champion, "2")

    def is_begun() -> bool:
        log.update_soon(one)
        fake.fails = bool(fake.taken)
        return first.run is not None and log.problem is not None

    until_true(is_begun)
    assert log.problem == "no MLflow"
    second = begin(tally, "2", 5)
    fake.fails = False

    def is_logged() -> bool:
        log.update_soon(two)
        return second.run is not None

    until_true(is_logged)
    assert second.run == "run of 2"
