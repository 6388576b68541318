"""Whether a process still uses a folder in which the processes of a server meet.

Each holds a lock on a file there. The kernel gives it back when a process dies, however that happens; those that are
forked share it.
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
    """Says that this process uses a folder, made if need be, until what is returned is closed."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed as unused since the line above
            file = open(folder / LOCK, "a")  # noqa: SIM115  held for the life of the process
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()


def remove_unused(folder: Path) -> None:
    """Removes a folder that was used, and is no longer."""
    with contextlib.suppress(OSError), open(folder / LOCK, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
