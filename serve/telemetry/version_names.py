"""Which versions have a label of their own in metrics: what drives, and the few that drove last; others are `other`.

A server that follows a registry for months serves many versions, and each would keep its series forever.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from serve.run_folder import read_file, write_file

MAX_NAMES = 4
"""Most versions with a label of their own: what drives, a canary, and two that are held or that were rolled back."""
OTHER = "other"
"""The label of what older versions still answer."""
FILE = "versions.json"
"""In the server's counter folder: version → when it was noted last, seconds since 1970."""


class VersionNames:
    """The names that the processes of one server share. Safe to call from several threads."""

    def __init__(self, folder_variable: str) -> None:
        """`folder_variable` is the environment variable with the server's counter folder; unset for one process."""
        self._variable = folder_variable
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._named: frozenset[str] = frozenset()

    def begin(self, version: str) -> None:
        """Notes that a version begins to be served here, or goes on while another one begins beside it."""
        with self._lock:
            self._note(version, time.time())

    def label(self, version: str) -> str:
        """The label of a version in metrics; one that nobody noted begins now. Empty while none is served."""
        if not version or version in self._named:
            return version
        with self._lock:
            if version not in self._began:
                self._note(version, time.time())
        return version if version in self._named else OTHER

    def shown(self) -> frozenset[str]:
        """The labels that a scrape shows, whichever process is asked: those of the versions that were noted last."""
        with self._lock:
            self._read()
        return self._named | {"", OTHER}

    def _note(self, version: str, now: float) -> None:
        folder = self._folder()
        if folder is None:
            self._began[version] = now
            self._choose()
            return
        try:
            with open(folder / f"{FILE}.lock", "a") as lock:  # released when the file is closed
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._read()
                self._began[version] = now
                write_file(folder / FILE, newest(self._began, 10 * MAX_NAMES))
        except OSError:  # on a full disk this process alone knows
            self._began[version] = now
        self._choose()

    def _read(self) -> None:
        folder = self._folder()
        if folder is not None:
            for version, began in (read_file(folder / FILE, dict[str, float]) or {}).items():
                self._began[version] = max(began, self._began.get(version, 0.0))
        self._choose()

    def _choose(self) -> None:
        self._named = frozenset(newest(self._began, MAX_NAMES))

    def _folder(self) -> Path | None:
        named = os.environ.get(self._variable)
        return Path(named) if named else None


def newest(began: dict[str, float], most: int) -> dict[str, float]:
    """The versions that were noted last, at most so many, the last one first."""
    return dict(sorted(began.items(), key=lambda each: each[1], reverse=True)[:most])


VERSIONS = VersionNames("PROMETHEUS_MULTIPROC_DIR")
"""Those of this process."""
