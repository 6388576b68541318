"""What a server counted in its last fifteen minutes, in slots of five seconds, with one small file per worker.

Prometheus's counters only grow, so that they tell the last minutes only to a reader that stored their earlier values.
A worker appends a line when a slot is over: little is written, and what a worker counted before it ended stays.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

SLOT_S, SLOTS, MINUTE_SLOTS = 5, 180, 12

Counts = Mapping[str, Mapping[str, Sequence[int]]]
"""Section, such as `latency` → name → the count of each bucket."""
_DECODER = msgspec.json.Decoder(dict[str, dict[str, list[int]]])


class Snapshot(NamedTuple):
    """What one worker has: the present slot, its counts, the finished slots, and the folder with all workers' files."""

    slot: int
    present: Counts
    lines: list[bytes]
    folder: Path | None


class RecentCounts:
    """Keeps what one worker counted, and sums it over all workers. The caller must hold a lock.

    Slots are numbered by the monotonic clock, which all processes of a machine share.

    Attributes:
        began: the slot in which counting began; in a worker, that of its server's start.
    """

    def __init__(self, folder_variable: str, now: Callable[[], int] | None = None) -> None:
        """Begins to count.

        Args:
            folder_variable: the environment variable with the server's counter folder; unset for one worker.
            now: returns the number of the present slot; None for `slot_now`.
        """
        self._variable, self._now = folder_variable, now or slot_now
        self._slot = self.began = self._now()
        self._counts: dict[str, dict[str, Sequence[int]]] = {}
        self._lines: deque[bytes] = deque(maxlen=SLOTS)
        self._in_file = 0

    def add(self, section: str, name: str, counts: Sequence[int]) -> None:
        """Adds counts to the present slot."""
        if not any(counts):
            return
        self.turn()
        mine = self._counts.setdefault(section, {})
        mine[name] = _plus(mine[name], counts) if name in mine else counts

    def turn(self) -> None:
        """Begins a new slot when it is time; to be called a few times a second."""
        now = self._now()
        if now == self._slot:
            return
        if self._counts:
            line = b"%d %b\n" % (self._slot, msgspec.json.encode(self._counts))
            self._lines.append(line)
            with contextlib.suppress(OSError):  # on a full disk only the server's page misses counts
                self._write(line)
        self._slot, self._counts = now, {}

    def snapshot(self) -> Snapshot:
        """Returns what this worker has, for `read_all`."""
        self.turn()
        present = {section: dict(named) for section, named in self._counts.items()}
        return Snapshot(self._slot, present, [*self._lines], self._folder())

    def _write(self, line: bytes) -> None:
        """Appends a line to this worker's file, which is cut when it is twice as long as needed."""
        folder = self._folder()
        if folder is None:
            return
        path = folder / f"recent-{os.getpid()}.lines"
        self._in_file += 1
        if self._in_file <= 2 * SLOTS:
            with open(path, "ab") as file:
                file.write(line)
            return
        beside = path.with_suffix(".new")
        beside.write_bytes(b"".join(self._lines))
        os.replace(beside, path)
        self._in_file = len(self._lines)

    def _folder(self) -> Path | None:
        named = os.environ.get(self._variable)
        return Path(named) if named else None


def read_all(snapshot: Snapshot, after: int = 0) -> dict[int, Counts]:
    """Returns the counts of all workers by slot; only of the slots after one, if a number is given. Needs no lock.

    Args:
        snapshot: of the worker that asks.
        after: number of a slot.
    """
    after = max(after, snapshot.slot - SLOTS)
    found: dict[int, list[Counts]] = {}
    for line in snapshot.lines if snapshot.folder is None else _lines_in(snapshot.folder):
        number, _, text = line.partition(b" ")
        with contextlib.suppress(ValueError, msgspec.DecodeError):  # a line that is being written
            if int(number) > after:
                found.setdefault(int(number), []).append(_DECODER.decode(text))
    if snapshot.present:
        found.setdefault(snapshot.slot, []).append(snapshot.present)
    return {slot: add_up(found[slot]) for slot in sorted(found) if slot > after}


def minute_of(snapshot: Snapshot) -> Counts:
    """Returns the counts of all workers in the last minute, up to five seconds less."""
    return add_up([*read_all(snapshot, snapshot.slot - MINUTE_SLOTS).values()])


def _lines_in(folder: Path) -> list[bytes]:
    texts = []
    for path in folder.glob("recent-*.lines"):
        with contextlib.suppress(OSError):  # one that has just been removed
            texts.append(path.read_bytes())
    return [line for text in texts for line in text.splitlines()]


def remove_old(folder: Path) -> None:
    """Removes the files of workers that ended so long ago that nothing in them is recent."""
    oldest = time.time() - SLOT_S * (SLOTS + 1)
    for path in folder.glob("recent-*"):
        with contextlib.suppress(OSError):  # another process was faster
            if path.stat().st_mtime < oldest:
                path.unlink()


def slot_now() -> int:
    """The number of the present slot."""
    return int(time.monotonic() / SLOT_S)


def add_up(every: Sequence[Counts]) -> Counts:
    """Adds up counts of several workers or slots."""
    found: dict[str, dict[str, Sequence[int]]] = {}
    for counts in every:
        for section, named in counts.items():
            mine = found.setdefault(section, {})
            for name, each in named.items():
                mine[name] = _plus(mine[name], each) if name in mine else each
    return found


def _plus(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(first, second, strict=True)]
