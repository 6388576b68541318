"""Runs the follower as a process beside the server, and passes hints to it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from serve.kept_process import KeptProcess
from serve.run_folder import HINT_FD, STATUS_FILE, Followed, read_file
from serve.settings import Settings


class FollowerProcess(KeptProcess):
    """Starts and restarts the follower, and passes hints to it. The follower ends when its parent does."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._status_file = status_file
        hints, self._hint = os.pipe()
        os.set_blocking(self._hint, False)
        super().__init__(
            settings,
            status_file.parent,
            "serve.following.follower",
            {STATUS_FILE: str(status_file), HINT_FD: str(hints)},
            "the follower process ended; the served versions stay",
            [hints],
        )

    @property
    def is_done(self) -> bool:
        """Whether no reference can change any more."""
        return (read_file(self._status_file, Followed) or Followed()).done

    def poll_now(self) -> None:
        """Makes the follower poll the registry at once; can be called in any process of the server."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of earlier hints
            os.write(self._hint, b"!")
