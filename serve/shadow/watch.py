"""Whether the shadow's process takes too much memory, or hangs: judged from outside, by what the kernel says of it."""

from __future__ import annotations

import os
from pathlib import Path

from serve.following.memory_left import PROC

START_S, HANG_S = 120.0, 60.0
"""Most seconds without a report, until the first one and after it. Those in which it got no processor do not count."""
MB = 1e6


class Watch:
    """Watches one process of the shadow."""

    def __init__(self, pid: int, report: Path, limit: int, now: float, proc: Path = PROC) -> None:
        """Begins to watch.

        Args:
            pid: of the process.
            report: the file that it renews every second or so.
            limit: most bytes that it may use.
            now: by the monotonic clock.
            proc: where the proc file system is mounted.
        """
        self._pid, self._report, self._limit, self._proc = pid, report, limit, proc
        self._seen, self._is_first = _identity(report), True
        self._looked, self._silent_s, self._ticks = now, 0.0, -1

    def problem(self, now: float) -> str | None:
        """Why the process should be ended, in words; None where it should not. To be called once a second or so.

        Args:
            now: by the monotonic clock.
        """
        holds = self._holds()
        if holds > self._limit:
            return f"takes {holds / MB:,.0f} MB, more than --shadow-memory-mb ({self._limit / MB:,.0f} MB)"
        passed, self._looked = now - self._looked, now
        seen, starves = _identity(self._report), self._starves()
        if seen != self._seen:
            self._seen, self._is_first, self._silent_s = seen, False, 0.0
        elif not starves:
            self._silent_s += passed
        limit_s = START_S if self._is_first else HANG_S
        return f"gave no sign of life for {limit_s:.0f} s" if self._silent_s > limit_s else None

    def _holds(self) -> int:
        """Bytes of memory of its own, without the workers' rings; 0 when it has ended."""
        try:
            lines = (self._proc / str(self._pid) / "status").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

    def _starves(self) -> bool:
        """Whether it could have run since the last look, but the processors had no time for it."""
        try:
            fields = (self._proc / str(self._pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        state, ticks = fields[0], int(fields[11]) + int(fields[12])  # proc(5): state, utime and stime
        idle, self._ticks = ticks == self._ticks, ticks
        return state == "R" and idle


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
