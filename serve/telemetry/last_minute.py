"""Histogram counts of a server's last minute, in slots of two seconds, with one small file per worker.

Prometheus's counters only grow, so that they tell the last minute only to a reader that stored their earlier values.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from serve.run_folder import read_file, write_file

SLOT_S, SLOTS = 2, 30

Counts = Mapping[str, Sequence[int]]
"""Name of a histogram → the count of each bucket."""


class Minute(msgspec.Struct):
    """One worker's slots, numbered by the monotonic clock, which all processes of a machine share."""

    slots: dict[int, Counts] = {}


class LastMinute:
    """Keeps one worker's last minute, and sums those of all workers. The caller must hold a lock."""

    def __init__(self, folder_variable: str) -> None:
        """`folder_variable` is the environment variable with the server's counter folder; unset for one worker."""
        self._variable = folder_variable
        self._minute = Minute()
        self._written = -1

    def add(self, counts: Counts) -> None:
        """Adds the counts since the last call; writes this worker's file once per slot."""
        now, slots = _slot(), self._minute.slots
        if any(map(any, counts.values())):
            slots[now] = _sum([slots.get(now, {}), counts])
        for slot in [slot for slot in slots if slot <= now - SLOTS]:
            del slots[slot]
        if now != self._written and slots:
            self._written = now
            self._write()

    def read(self) -> Counts:
        """Returns each histogram's counts of the last minute, summed over all workers."""
        self._write()
        found = [self._minute]
        if folder := self._folder():
            found = [read_file(path, Minute) or Minute() for path in folder.glob("minute-*.json")]
        oldest = _slot() - SLOTS
        return _sum([counts for minute in found for slot, counts in minute.slots.items() if slot > oldest])

    def _folder(self) -> Path | None:
        named = os.environ.get(self._variable)
        return Path(named) if named else None

    def _write(self) -> None:
        if folder := self._folder():
            with contextlib.suppress(OSError):  # on a full disk only the status page misses counts
                write_file(minute_file(folder, os.getpid()), self._minute)


def minute_file(folder: Path, pid: int) -> Path:
    """Path of a worker's file in the server's counter folder."""
    return folder / f"minute-{pid}.json"


def _slot() -> int:
    return int(time.monotonic() / SLOT_S)


def _sum(every: Sequence[Counts]) -> Counts:
    found: dict[str, Sequence[int]] = {}
    for counts in every:
        for name, each in counts.items():
            found[name] = [a + b for a, b in zip(found[name], each, strict=True)] if name in found else each
    return found
