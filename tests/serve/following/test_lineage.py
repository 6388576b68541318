"""Which earlier versions may be held once a reference has moved on."""

from __future__ import annotations

import logging

import pytest

from carla_mlflow.errors import UnreachableError
from serve.following.lineage import MAX_HOLDABLE, line_after, still_live
from serve.run_folder import Holdable, Status


def status(version: str, *before: str) -> Status:
    line = tuple(Holdable(each, f"sha256:{each}") for each in before)
    return Status(path="there", digest=f"sha256:{version}", version=version, holdable=line)


def after(before: Status, version: str, goes_back: bool = False) -> list[str]:
    return [each.version for each in line_after(before, version, f"sha256:{version}", lambda: goes_back)]


def test_what_a_higher_version_replaces_comes_first():
    assert after(status("1.1.0", "1.0.0"), "1.2.0") == ["1.1.0", "1.0.0"]
    assert after(Status(), "1.0.0") == []


def test_what_is_left_for_a_lower_version_is_not_in_it_nor_what_came_after_that():
    assert after(status("1.2.0", "1.1.0", "1.0.0"), "1.0.0") == []
    assert after(status("1.2.0", "1.1.0", "1.0.0"), "1.1.0") == ["1.0.0"]
    assert after(status("1.9.0", "1.10.0", "1.0.0"), "1.2.0") == ["1.0.0"]


def test_what_is_left_by_a_rollback_to_a_higher_version_is_not_in_it():
    assert after(status("1.1.0", "1.0.0"), "1.2.0", goes_back=True) == ["1.0.0"]


def test_the_line_is_bounded():
    assert len(after(status("1.9.0", "1.8.0", "1.7.0", "1.6.0", "1.5.0"), "2.0.0")) == MAX_HOLDABLE


def test_where_the_journal_can_not_be_read_nothing_is_added(caplog: pytest.LogCaptureFixture):
    def fails() -> bool:
        raise UnreachableError("no answer")

    with caplog.at_level(logging.WARNING):
        line = line_after(status("1.1.0", "1.0.0"), "1.2.0", "sha256:1.2.0", fails)
    assert [each.version for each in line] == ["1.0.0"]
    assert "1.1.0 is not held for its episodes: the journal can't be read: no answer" in caplog.text


def test_only_what_workers_use_is_asked_about_and_what_is_not_live_leaves():
    asked: list[str] = []

    def is_live(version: Holdable) -> bool:
        asked.append(version.version)
        return version.version != "1.1.0"

    line = status("1.3.0", "1.2.0", "1.1.0", "1.0.0").holdable
    assert [v.version for v in still_live(line, {"sha256:1.2.0", "sha256:1.1.0"}, is_live)] == ["1.2.0", "1.0.0"]
    assert asked == ["1.2.0", "1.1.0"]
