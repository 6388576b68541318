"""What a server did in the last minute, whoever looked: counts in slots of two seconds, a small file a worker.

Prometheus's counters only grow: what came in the last minute is known to those alone who asked a minute ago.
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
"""Histogram → how often each of its buckets came."""


class Minute(msgspec.Struct):
    """Of one worker: its slots, each numbered by the monotonic clock, which the processes of a machine share."""

    slots: dict[int, Counts] = {}


class LastMinute:
    """Keeps one worker's minute, and sums it with the others'. Its caller holds a lock."""

    def __init__(self, folder_variable: str) -> None:
        """Args: the variable that names the folder of the server's counters; not set where there is one worker."""
        self._variable = folder_variable
        self._minute = Minute()
        self._written = -1

    def add(self, counts: Counts) -> None:
        """Takes what has come since the last call; tells the other workers once a slot."""
        now, slots = _slot(), self._minute.slots
        if any(map(any, counts.values())):
            slots[now] = _sum([slots.get(now, {}), counts])
        for slot in [slot for slot in slots if slot <= now - SLOTS]:
            del slots[slot]
        if now != self._written and slots:
            self._written = now
            self._write()

    def read(self) -> Counts:
        """Each histogram's counts of the last minute, of all workers."""
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
            with contextlib.suppress(OSError):  # a disk that is full: only the page for people misses something
                write_file(minute_file(folder, os.getpid()), self._minute)


def minute_file(folder: Path, pid: int) -> Path:
    """Where a worker tells its minute. Args: the folder of the server's counters; the worker."""
    return folder / f"minute-{pid}.json"


def _slot() -> int:
    return int(time.monotonic() / SLOT_S)


def _sum(every: Sequence[Counts]) -> Counts:
    found: dict[str, Sequence[int]] = {}
    for counts in every:
        for name, each in counts.items():
            found[name] = [a + b for a, b in zip(found[name], each, strict=True)] if name in found else each
    return found
