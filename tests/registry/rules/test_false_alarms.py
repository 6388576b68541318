"""Alarms hardly ever fire for nothing and always soon when they should, on histories resampled from real scrapes."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from tests_support import ROOT

from benchmarks.correctness.bake_histories import Outcome, judge, read_recording

HISTORIES = 200
BUSY, QUIET = ROOT / "tests" / "data" / "scrapes-budget.json", ROOT / "tests" / "data" / "scrapes.json"
"""Seconds of real drives: in the first a budget makes some answers late."""


@functools.cache
def judged(path: Path, metric: str) -> Outcome:
    return judge(read_recording(path), metric, HISTORIES, seed=21)


@pytest.mark.parametrize(
    ("path", "metric"),
    [
        (BUSY, "fallback_rate"),
        (BUSY, "saturation"),
        (BUSY, "saturation.steer"),
        (BUSY, "p99_ms"),
        (QUIET, "saturation"),
        (QUIET, "out_of_range"),
        (QUIET, "p50_ms"),
        (QUIET, "p99_ms"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_at_most_one_history_in_a_hundred_is_rolled_back_for_nothing_and_99_at_twice_the_bar(path: Path, metric: str):
    outcome = judged(path, metric)
    assert outcome.false <= HISTORIES // 100
    assert outcome.found >= HISTORIES - HISTORIES // 100
