"""When the shadow's process is ended from outside: judged by files as the kernel writes them, and by a real process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.shadow.watch import HANG_S, START_S, Watch

PID = 4711


class Proc:
    """A proc file system with one process, and the file that it renews."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.report = folder, folder / "report.json"
        (folder / str(PID)).mkdir()
        self.is_(state="S", ticks=5)

    def is_(self, state: str, ticks: int, kilobytes: int = 100) -> None:
        own = self.folder / str(PID)
        (own / "status").write_text(f"RssAnon:\t{kilobytes} kB\nRssShmem:\t0 kB\n")
        (own / "stat").write_text(f"{PID} (a ) name) {state} 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 39 19 1\n")

    def beat(self) -> None:
        beside = self.report.with_suffix(".new")
        beside.write_text("{}")
        beside.replace(self.report)

    def watch(self) -> Watch:
        return Watch(PID, self.report, 1_000_000, 0.0, self.folder)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def seconds(watch: Watch, first: int, last: int) -> set[str | None]:
    return {watch.problem(float(second)) for second in range(first, last + 1)}


def test_one_that_renews_its_report_is_left_alone(proc: Proc):
    watch = proc.watch()
    for second in range(1, 1000, 10):
        proc.beat()
        assert watch.problem(float(second)) is None


def test_one_that_never_writes_a_report_has_longer_than_one_that_stops_to(proc: Proc):
    watch = proc.watch()
    assert seconds(watch, 1, int(START_S)) == {None}
    assert watch.problem(START_S + 1) == "gave no sign of life for 120 s"
    watch = proc.watch()
    proc.beat()
    assert seconds(watch, 1, int(HANG_S) + 1) == {None}
    assert watch.problem(HANG_S + 2) == "gave no sign of life for 60 s"


def test_one_that_spins_without_a_report_is_ended_and_one_that_gets_no_processor_is_not(proc: Proc):
    proc.beat()
    starved, spinning = proc.watch(), proc.watch()
    for second in range(1, 10 * int(START_S)):
        proc.is_("R", ticks=6)
        assert starved.problem(float(second)) is None
    found = set()
    for second in range(1, int(START_S) + 5):
        proc.is_("R", ticks=6 + second)
        found.add(spinning.problem(float(second)))
    assert found == {None, "gave no sign of life for 120 s"}


def test_one_that_takes_more_memory_than_it_may_is_ended(proc: Proc):
    watch = proc.watch()
    proc.is_("S", ticks=5, kilobytes=900)
    assert watch.problem(1.0) is None
    proc.is_("S", ticks=5, kilobytes=1200)
    assert watch.problem(2.0) == "takes 1 MB, more than --shadow-memory-mb (1 MB)"


def test_a_real_process_that_eats_memory_is_seen(tmp_path: Path):
    code = "eaten = b'x' * 60_000_000; print('full', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as eater:
        assert eater.stdout is not None
        eater.stdout.readline()
        watch = Watch(eater.pid, tmp_path / "report.json", 50_000_000, time.monotonic())
        assert "more than --shadow-memory-mb (50 MB)" in (watch.problem(time.monotonic()) or "")
        eater.communicate(b"\n")


def test_one_that_is_gone_is_no_problem_of_the_watch(tmp_path: Path):
    watch = Watch(PID, tmp_path / "report.json", 1, 0.0, tmp_path)
    assert watch.problem(1.0) is None
