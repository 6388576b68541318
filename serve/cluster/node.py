"""Servers that a cluster starts: those on one machine meet in a folder, and one of them follows the registry.

Under gunicorn a master process starts the follower; here the first process that gets a lock does, and when it ends
another one gets it. So the registry is asked, and an artifact fetched, once a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from serve.folder_lock import hold, remove_unused
from serve.following.follower_process import FollowerProcess
from serve.run_folder import FOLLOW_FILE, METRICS, RUN_FOLDER, worker_file
from serve.settings import Settings
from serve.telemetry.last_minute import minute_file

LOOK_S = 0.5

_in_use: list[IO[str]] = []

log = logging.getLogger("serve")


def meeting_folder(settings: Settings, node: str, deployed: str) -> Path:
    """The folder of all processes on this machine that were deployed together; made if need be.

    It is used from now on until this process ends, and outlives it for what replaces this process: that keeps the
    contract. What an earlier deployment with the same settings left is removed.

    Args:
        settings: of the server.
        node: the cluster's name of this machine.
        deployed: tells one deployment from the next.
    """
    told = msgspec.json.encode([settings.to_environment(), os.environ.get("MLFLOW_TRACKING_URI")])
    temporary = Path(tempfile.gettempdir())
    alike = f"{RUN_FOLDER}{os.getuid()}-{hashlib.sha256(told).hexdigest()[:16]}"
    folder = temporary / f"{alike}-{deployed}-{node[:16]}"
    for left in temporary.glob(f"{alike}*"):
        if left != folder:
            remove_unused(left)
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    _in_use.append(hold(folder))
    (folder / METRICS).mkdir(exist_ok=True, mode=0o700)
    return folder


class Node:
    """This process among those of its machine.

    Attributes:
        status_file: where the follower tells what it found.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.status_file = folder / FOLLOW_FILE
        self._follower: FollowerProcess | None = None
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)

    def start(self) -> None:
        """From now on, should nobody else do it, this process looks after the follower."""
        self._thread.start()

    def look_now(self) -> None:
        """Asks the follower to look at once, where it is this process's; others hear of it by polling."""
        if self._follower is not None:
            self._follower.look_now()

    def _run(self) -> None:
        with open(self._folder / "follower.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits until whoever has it is gone
            if not self._settings.is_folder:
                self._follower = FollowerProcess(self._settings, self.status_file)
            while True:
                time.sleep(LOOK_S)
                self._forget_the_dead()
                if self._follower is not None:
                    self._follower.keep_alive()

    def _forget_the_dead(self) -> None:
        """A process that is gone serves nothing."""
        from serve.telemetry.dead_counters import add_up

        for path in self._folder.glob("worker-*.json"):
            pid = int(path.stem.removeprefix("worker-"))
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                with suppress(OSError):
                    worker_file(self._folder, pid).unlink()
                    minute_file(self._folder / METRICS, pid).unlink()
                add_up(self._folder / METRICS, pid)
            except PermissionError:
                continue
