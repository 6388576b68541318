"""What is remembered of loading an artifact on this machine, also by processes that did not survive it.

Whoever loads one first writes a file and locks it, and takes it away afterwards. The kernel gives the lock back when a
process dies, however that happens: a file that is there and not locked was left by a load that killed its process.
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
"""Before an artifact that killed a process is tried again; four times as long after each further time."""
LEFT = "a process that was loading it came to an end before that"

_mine: set[Path] = set()
"""Attempts of this process that are under way."""
_ends = threading.Event()
"""Whether this process ends: what it begins to load now is no attempt, since it won't see the end."""


class Record(msgspec.Struct, frozen=True):
    """What is known of one artifact.

    Attributes:
        deaths: processes that it killed since it was loaded last.
        died: when the last one did, on this machine's monotonic clock.
        how: the last one did, in words.
        loads: how it was shown to load: a hash of settings and libraries; empty while it was not.
        needs: bytes that loading it takes.
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
        if not self.deaths or waited < 0:  # the machine was started anew since
            return 0.0
        return max(0.0, min(FIRST_WAIT_S * 4.0 ** (self.deaths - 1), MAX_WAIT_S) - waited)


class Attempts:
    """The attempts to load one artifact, by whatever process of this machine."""

    def __init__(self, folder: Path, what: str) -> None:
        """Args: where attempts are remembered; the artifact's digest, or its path where it has none."""
        self._folder = folder
        self._key = hashlib.sha256(what.encode()).hexdigest()[:32]

    @classmethod
    def of(cls, settings: Settings, run_folder: Path, what: str) -> Attempts:
        """In the cache, so that the next start knows too; in the run folder where there is none to write to."""
        folder = cache_folder(settings) / "attempts"
        if settings.is_folder or not _can_write(folder):
            folder = run_folder / "attempts"
            folder.mkdir(exist_ok=True, mode=0o700)
        return cls(folder, what)

    def read(self) -> Record:
        """What is known, attempts included that were left since."""
        left = [path for path in self._folder.glob(f"{self._key}.try-*") if _was_left(path)]
        if left:
            self.died(LEFT)
            for path in left:
                path.unlink(missing_ok=True)
        return read_file(self._file, Record) or Record()

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """While it is loaded. A disk that is full costs the memory of it alone."""
        path = self._folder / f"{self._key}.try-{os.getpid()}-{secrets.token_hex(4)}"
        beside = path.with_name(f".{path.name}")
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                file = stack.enter_context(open(beside, "x"))
                fcntl.flock(file, fcntl.LOCK_EX)
                _mine.add(path)
                os.replace(beside, path)  # seen by others only now that it is locked
            if _ends.is_set():
                path.unlink(missing_ok=True)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                _mine.discard(path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Yields whether this process is the only one that tries it again now."""
        with open(self._folder / f"{self._key}.lock", "a") as lock:  # released with the file
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def died(self, how: str) -> None:
        """It killed a process."""
        before = read_file(self._file, Record) or Record()
        write_file(self._file, Record(before.deaths + 1, time.monotonic(), how))

    def loaded(self, loads: str = "", needs: int = 0) -> None:
        """It was loaded, and nothing came to harm. Args: how it was shown to; bytes that it took."""
        before = read_file(self._file, Record) or Record()
        with contextlib.suppress(OSError):  # a disk that is full costs the memory of it alone
            write_file(self._file, Record(loads=loads or before.loads, needs=needs or before.needs))

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._key}.json"


def withdraw() -> None:
    """Takes back the attempts of this process: it ends by itself, or because it was told to."""
    _ends.set()
    for path in list(_mine):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _was_left(path: Path) -> bool:
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(file.fileno()).st_nlink > 0  # 0: taken away by its process between the two lines above
    except OSError:  # its process lives, or it was taken away before
        return False


def _can_write(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.access(folder, os.W_OK)
