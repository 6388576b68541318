"""Few versions have a label of their own in metrics, the same in every process of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.telemetry.version_names import OTHER, VersionNames

FOLDER = "TEST_COUNTER_FOLDER"
FIVE = [f"0.{minor}.0" for minor in range(1, 6)]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VersionNames:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return VersionNames(FOLDER)


@pytest.fixture
def alone() -> VersionNames:
    """One process without a counter folder."""
    return VersionNames("TEST_NO_FOLDER")


def test_the_four_versions_that_began_last_have_names(alone: VersionNames):
    for version in FIVE:
        alone.begin(version)
    assert [alone.label(version) for version in FIVE] == [OTHER, *FIVE[1:]]
    assert alone.shown() == {"", OTHER, *FIVE[1:]}


def test_a_version_that_is_rolled_back_to_has_its_name_again(alone: VersionNames):
    for version in [*FIVE, FIVE[0]]:
        alone.begin(version)
    assert [alone.label(version) for version in FIVE] == [FIVE[0], OTHER, *FIVE[2:]]


def test_counting_an_older_version_takes_no_name_from_a_newer_one(alone: VersionNames):
    for version in FIVE:
        alone.begin(version)
    for _ in range(3):
        assert [alone.label(version) for version in FIVE] == [OTHER, *FIVE[1:]]


def test_a_version_that_nobody_noted_begins_when_it_is_counted_and_none_has_no_name(alone: VersionNames):
    assert [alone.label("0.1.0"), alone.label("")] == ["0.1.0", ""]
    assert alone.shown() == {"", OTHER, "0.1.0"}


def test_whichever_process_is_asked_the_names_are_the_same(names: VersionNames):
    others = VersionNames(FOLDER)
    for version in FIVE[:3]:
        names.begin(version)
    for version in FIVE[3:]:
        others.begin(version)
    replaced = VersionNames(FOLDER)  # a worker that has seen none of them begin
    assert names.shown() == others.shown() == replaced.shown() == {"", OTHER, *FIVE[1:]}
    assert names.label(FIVE[0]) == OTHER
