"""Counters of processes that have ended: added up in one file, so that a scrape costs the same however many there were.

prometheus_client keeps a file a process for ever, and reads each at every scrape.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

_SUMMED = ("counter", "histogram", "summary")


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While the files are read: none is added to another meanwhile, and so counted twice or not at all."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


def add_up(folder: Path, pid: int) -> None:
    """Adds the counters of a process that is gone to those of the others, and removes its files."""
    with _locked(folder, fcntl.LOCK_EX):
        for kind in _SUMMED:
            own = folder / f"{kind}_{pid}.db"
            if not own.exists():
                continue
            total = MmapedDict(str(folder / f"{kind}_ended.db"))  # type: ignore[no-untyped-call]
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(own)):  # type: ignore[no-untyped-call]
                total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
            total.close()  # type: ignore[no-untyped-call]
            own.unlink()
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with open(folder / "counters.lock", "a") as lock:  # released with the file
        fcntl.flock(lock, how)
        yield
