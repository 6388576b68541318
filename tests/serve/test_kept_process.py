"""When a process beside the server is started again: by a clock of the test's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve import kept_process
from serve.kept_process import MAX_WAIT_S, KeptProcess
from serve.settings import Settings


class Kept(KeptProcess):
    """One whose processes are made up: each has died when it is looked at, after so many seconds."""

    lived, now = 0.0, 0.0

    def begin_again(self) -> float:
        """Looks at it until it was started again; returns for how long it was not."""
        Kept.now += self.lived
        ended, before = Kept.now, self._process
        while self._process is before:
            self.keep_alive()
            Kept.now += 0.25
        return Kept.now - 0.25 - ended

    def _note_end(self) -> None:
        pass

    def _start(self) -> Any:
        self._began = Kept.now
        return SimpleNamespace(pid=1, poll=lambda: 1)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kept:
    monkeypatch.setattr(Kept, "now", 0.0)
    monkeypatch.setattr(kept_process, "time", SimpleNamespace(monotonic=lambda: Kept.now))
    return Kept(Settings(), tmp_path, "module", {}, "it ended")


def test_one_that_dies_soon_waits_twice_as_long_each_time_up_to_a_minute(kept: Kept):
    assert [kept.begin_again() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_that_lived_for_a_minute_is_started_again_soon(kept: Kept):
    waits = [kept.begin_again() for _ in range(3)]
    kept.lived = MAX_WAIT_S + 1
    assert [*waits, kept.begin_again()] == [1, 2, 4, 0.5]
