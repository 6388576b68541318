"""Tells whether any process still uses a server's run folder.

Each process holds a lock on a file there; forked processes share one lock. The kernel releases it when they die, for
whatever reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

LOCK = "in-use.lock"


def hold(folder: Path) -> IO[str]:
    """Creates the folder if needed, and marks it as used by this process until the returned file is closed."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process removed it after the line above
            file = open(folder / LOCK, "a")  # noqa: SIM115  held for the life of the process
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()


def remove_unused(folder: Path) -> None:
    """Removes a folder that was marked as used, if no process uses it any more."""
    with contextlib.suppress(OSError), open(folder / LOCK, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
