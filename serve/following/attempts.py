"""Remembers the attempts to load an artifact on this machine, also those that killed their process.

Before loading an artifact, a process writes a file and locks it; afterwards it removes the file. The kernel releases
the lock when a process dies for whatever reason: a file without a lock was left by a load that killed its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from serve.following.last_served import cache_folder
from serve.run_folder import read_file, write_file
from serve.settings import Settings

FIRST_WAIT_S, MAX_WAIT_S = 2.0, 600.0
"""Seconds before an artifact that killed a process is tried again; four times as long after each further death."""
LEFT = "a process ended while loading it, perhaps killed for want of memory"

_mine: set[Path] = set()
"""The files of this process's attempts under way."""
_ends = threading.Event()
"""Whether this process is exiting: a load that begins now is not recorded, since it won't finish."""


class Record(msgspec.Struct, frozen=True):
    """What is known of one artifact.

    Attributes:
        deaths: processes that it killed since it was loaded last.
        died: when the last one died, on this machine's monotonic clock.
        how: a message about how the last one died.
        loads: hash of the settings and libraries with which it was shown to load; empty while it was not.
        needs: bytes of memory that loading it takes.
    """

    deaths: int = 0
    died: float = 0.0
    how: str = ""
    loads: str = ""
    needs: int = 0

    @property
    def wait_s(self) -> float:
        """Seconds until it may be tried again."""
        waited = time.monotonic() - self.died
        if not self.deaths or waited < 0:  # below 0: the machine has rebooted since
            return 0.0
        return max(0.0, min(FIRST_WAIT_S * 4.0 ** (self.deaths - 1), MAX_WAIT_S) - waited)


class Attempts:
    """The attempts of all processes on this machine to load one artifact."""

    def __init__(self, folder: Path, what: str) -> None:
        """`folder` holds the files of attempts; `what` is the artifact's digest, or its path if it has no digest."""
        self._folder = folder
        self._key = hashlib.sha256(what.encode()).hexdigest()[:32]

    @classmethod
    def of(cls, settings: Settings, run_folder: Path, what: str) -> Attempts:
        """Keeps attempts in the cache, for the next start too; in the run folder if there is no writable cache."""
        folder = cache_folder(settings) / "attempts"
        if settings.is_folder or not _can_write(folder):
            folder = run_folder / "attempts"
            folder.mkdir(exist_ok=True, mode=0o700)
        return cls(folder, what)

    def read(self) -> Record:
        """Returns what is known, after counting the attempts that killed their processes since."""
        left = [path for path in self._folder.glob(f"{self._key}.try-*") if _was_left(path)]
        if left:
            self.died(LEFT)
            for path in left:
                path.unlink(missing_ok=True)
        return read_file(self._file, Record) or Record()

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Records an attempt while the artifact is loaded; on a full disk it goes unrecorded."""
        path = self._folder / f"{self._key}.try-{os.getpid()}-{secrets.token_hex(4)}"
        beside = path.with_name(f".{path.name}")
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                file = stack.enter_context(open(beside, "x"))
                fcntl.flock(file, fcntl.LOCK_EX)
                _mine.add(path)
                os.replace(beside, path)  # visible to others only once it is locked
            if _ends.is_set():
                path.unlink(missing_ok=True)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                _mine.discard(path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Yields whether this process is the only one that is trying it again."""
        with open(self._folder / f"{self._key}.lock", "a") as lock:  # released when the file is closed
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def died(self, how: str) -> None:
        """Records that it killed a process; `how` is the message."""
        before = read_file(self._file, Record) or Record()
        write_file(self._file, Record(before.deaths + 1, time.monotonic(), how))

    def loaded(self, loads: str = "", needs: int = 0) -> None:
        """Records that it was loaded without harm; empty `loads` and 0 `needs` keep the values known before."""
        before = read_file(self._file, Record) or Record()
        with contextlib.suppress(OSError):  # on a full disk it goes unrecorded
            write_file(self._file, Record(loads=loads or before.loads, needs=needs or before.needs))

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._key}.json"


def withdraw() -> None:
    """Withdraws the attempts of this process, which ends by itself or by a signal, not by a load."""
    _ends.set()
    for path in list(_mine):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _was_left(path: Path) -> bool:
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(file.fileno()).st_nlink > 0  # 0: removed by its process between the two lines above
    except OSError:  # its process lives, or has removed it
        return False


def _can_write(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.access(folder, os.W_OK)
