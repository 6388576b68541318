"""Where a server's run folder lies: in memory where there is room, so that no process of it waits for a disk.

Every few seconds a worker writes what it counted, and its counters are mapped files. On a busy disk each may take as
long as the disk is busy, and all requests of the worker wait for it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
RUN_FOLDER_BYTES = 16 << 20
"""Room that a run folder needs: counters of many versions and workers take a few megabytes."""
_CHOSEN_BY = ("TMPDIR", "TEMP", "TMP")
_LOGIND, _FIRST_PERSON = Path("/run/systemd/users"), 1000
"""Where logind runs, it removes what a person (a user from this number on) has in shared memory when they log out."""


def temporary_folder(other_bytes: int = 0) -> Path:
    """The folder for run folders: shared memory where there is room, else the temporary folder.

    This, too, where the environment names one, and where shared memory may be cleared while the server runs.

    Args:
        other_bytes: that this server is going to take of the shared memory for something else.
    """
    named = any(os.environ.get(name) for name in _CHOSEN_BY) or (_LOGIND.is_dir() and os.getuid() >= _FIRST_PERSON)
    has_room = not named and is_usable() and _free_bytes() >= RUN_FOLDER_BYTES + other_bytes
    return SHARED_MEMORY if has_room else Path(tempfile.gettempdir())


def temporary_folders() -> set[Path]:
    """All folders where a server may have left its run folder."""
    return {SHARED_MEMORY, Path(tempfile.gettempdir())}


def is_usable() -> bool:
    """Whether this process may create files in shared memory."""
    return SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)


def _free_bytes() -> int:
    found = os.statvfs(SHARED_MEMORY)
    return found.f_bavail * found.f_frsize
