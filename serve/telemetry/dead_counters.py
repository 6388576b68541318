"""Adds up the counters of ended processes in one file, so that a scrape does not get slower with their number.

prometheus_client by itself keeps one file per process forever, and reads all of them at every scrape.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from carla_mlflow.escaping import one_line

log = logging.getLogger("serve")

_SUMMED = ("counter", "histogram", "summary")


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Blocks `add_up` while the files are read, so that no counter is read twice or missed."""
    with _locked(folder, fcntl.LOCK_SH):
        yield


def add_up(folder: Path, pid: int) -> None:
    """Adds the counters of an ended process to the common file, and removes its own files.

    If that fails, for example on a full disk, its own files stay and are still read: nothing is lost.
    """
    try:
        with _locked(folder, fcntl.LOCK_EX):
            for kind in _SUMMED:
                if (own := folder / f"{kind}_{pid}.db").exists():
                    _add(own, folder / f"{kind}_ended.db")
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError, struct.error) as error:  # the last two: a truncated file
        log.warning(
            "the counters of process %d could not be added to those of ended processes, and stay in its own files: %s",
            pid,
            one_line(error),
        )


def _add(own: Path, all_ended: Path) -> None:
    values = list(MmapedDict.read_all_values_from_file(str(own)))  # type: ignore[no-untyped-call]
    with open(all_ended, "ab") as file:  # reserves the space: writing to a mapped file on a full disk is a SIGBUS
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + own.stat().st_size)
    total = MmapedDict(str(all_ended))  # type: ignore[no-untyped-call]
    for key, value, _, _ in values:
        total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    own.unlink()


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with open(folder / "counters.lock", "a") as lock:  # released when the file is closed
        fcntl.flock(lock, how)
        yield
