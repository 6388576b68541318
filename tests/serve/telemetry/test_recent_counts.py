"""What a server counted in its last fifteen minutes is told, whichever worker counted it, and no longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.telemetry.recent_counts import SLOTS, RecentCounts, minute_of, read_all, remove_old

FOLDER = "TEST_RECENT_FOLDER"


class Clock:
    """Numbers of slots, as a test says them."""

    def __init__(self) -> None:
        self.slot = 1000

    def __call__(self) -> int:
        return self.slot


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecentCounts:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return RecentCounts(FOLDER, clock)


def as_another_worker(folder: Path) -> Path:
    """Gives this process's file the name of another worker's, as if that had counted it."""
    [own] = folder.glob(f"recent-{os.getpid()}.lines")
    return own.rename(folder / f"recent-{len(list(folder.iterdir()))}.lines")


def test_slots_are_kept_apart_and_the_present_one_is_told_too(recent: RecentCounts, clock: Clock):
    recent.add("codes", "200", [3])
    clock.slot += 1
    recent.add("codes", "200", [4])
    recent.add("codes", "200", [1])
    assert read_all(recent.snapshot()) == {1000: {"codes": {"200": [3]}}, 1001: {"codes": {"200": [5]}}}
    assert read_all(recent.snapshot(), after=1000) == {1001: {"codes": {"200": [5]}}}


def test_workers_are_summed_and_one_that_ended_is_among_them(recent: RecentCounts, clock: Clock, tmp_path: Path):
    for _ in range(2):
        recent.add("latency", "total", [1, 0, 2])
        clock.slot += 1
        recent.turn()
        clock.slot -= 1
        recent.turn()
        as_another_worker(tmp_path)
    recent.add("latency", "total", [0, 5, 0])
    assert read_all(recent.snapshot())[1000] == {"latency": {"total": [2, 5, 4]}}


def test_the_last_minute_is_the_last_twelve_slots(recent: RecentCounts, clock: Clock):
    for _ in range(20):
        recent.add("codes", "200", [1])
        clock.slot += 1
    assert minute_of(recent.snapshot()) == {"codes": {"200": [11]}}  # the twelfth has just begun


def test_what_is_older_than_fifteen_minutes_is_told_no_more_and_takes_no_room(
    recent: RecentCounts, clock: Clock, tmp_path: Path
):
    sizes = []
    for _ in range(5 * SLOTS):
        recent.add("codes", "200", [1])
        clock.slot += 1
        recent.turn()
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert len(read_all(recent.snapshot())) == SLOTS - 1  # and the present one, in which nothing is counted
    assert max(sizes[3 * SLOTS :]) == max(sizes)


def test_a_line_that_is_being_written_is_left_out(recent: RecentCounts, clock: Clock, tmp_path: Path):
    recent.add("codes", "200", [1])
    clock.slot += 1
    recent.turn()
    (tmp_path / "recent-1.lines").write_bytes(b'1000 {"codes":{"200":[5]}}\n1000 {"codes":{"2')
    assert read_all(recent.snapshot()) == {1000: {"codes": {"200": [6]}}}


def test_a_process_alone_needs_no_folder(clock: Clock):
    recent = RecentCounts("TEST_NO_FOLDER", clock)
    recent.add("codes", "422", [1])
    clock.slot += 3
    recent.add("codes", "422", [0])
    assert read_all(recent.snapshot()) == {1000: {"codes": {"422": [1]}}}


def test_files_of_workers_that_ended_long_ago_are_removed(tmp_path: Path):
    for name, age in (("recent-1.lines", 3600), ("recent-2.lines", 60), ("counter_1.db", 3600)):
        (tmp_path / name).write_bytes(b"")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    remove_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_1.db", "recent-2.lines"]
