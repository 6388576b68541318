"""Server processes that a cluster starts: those on one machine share a run folder, and one of them runs the follower.

Under gunicorn the master process starts the follower; here the first process that gets a lock does, and when it ends
another one gets the lock. So each machine polls the registry and fetches an artifact only once.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from serve.folder_lock import hold, remove_unused
from serve.following.follower_process import FollowerProcess
from serve.kept_process import KeptProcess
from serve.record.start import WriterProcess, leave_rings, remove_left_rings
from serve.run_folder import FOLLOW_FILE, METRICS, RUN_FOLDER, worker_file
from serve.settings import Settings
from serve.shadow.shadow_process import ShadowProcess
from serve.telemetry.recent_counts import remove_old

INTERVAL_S = 0.5

_in_use: list[IO[str]] = []

log = logging.getLogger("serve")


def meeting_folder(settings: Settings, node: str, deployed: str) -> Path:
    """Returns the run folder of all processes of a deployment on this machine; creates it if needed.

    It is marked as used until this process ends. It stays afterwards, so that a replacement of this process keeps the
    contract. Folders that earlier deployments with the same settings left are removed.

    Args:
        settings: of the server.
        node: the cluster's name of this machine.
        deployed: id of the deployment.
    """
    configured = msgspec.json.encode([settings.to_environment(), os.environ.get("MLFLOW_TRACKING_URI")])
    temporary = Path(tempfile.gettempdir())  # by nothing that may differ between processes, such as free memory
    prefix = f"{RUN_FOLDER}{os.getuid()}-{hashlib.sha256(configured).hexdigest()[:16]}"
    folder = temporary / f"{prefix}-{deployed}-{node[:16]}"
    for left in temporary.glob(f"{prefix}*"):
        if left != folder:
            remove_unused(left)
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    _in_use.append(hold(folder))
    (folder / METRICS).mkdir(exist_ok=True, mode=0o700)
    return folder


class Node:
    """This process among the server processes of its machine.

    Attributes:
        status_file: the follower's file.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.status_file = folder / FOLLOW_FILE
        self._follower: FollowerProcess | None = None
        self._kept: list[KeptProcess] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)

    def start(self) -> None:
        """Starts the thread that runs the follower, as soon as no other process of this machine does."""
        self._thread.start()

    def poll_now(self) -> None:
        """Makes the follower poll at once if this process runs it; if not, the next regular poll finds changes."""
        if self._follower is not None:
            self._follower.poll_now()

    def stop(self) -> None:
        """Ends the processes beside this one in order; Ray would kill them, with what they have not written yet."""
        self._stopping.set()
        for process in self._kept:
            process.stop()
        leave_rings(self._folder)

    def _run(self) -> None:
        with open(self._folder / "follower.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the process that has it is gone
            if not self._settings.is_folder:
                self._follower = FollowerProcess(self._settings, self.status_file)
                self._kept.append(self._follower)
            if self._settings.record or self._settings.shadow:
                remove_left_rings()
            if self._settings.record:
                self._kept.append(WriterProcess(self._settings, self._folder))
            if self._settings.shadow:
                self._kept.append(ShadowProcess(self._settings, self._folder))
            while not self._stopping.wait(INTERVAL_S):
                self._forget_the_dead()
                for process in self._kept:
                    process.keep_alive()

    def _forget_the_dead(self) -> None:
        """Removes the files of processes that have ended, and keeps their counters."""
        from serve.telemetry.dead_counters import add_up

        for path in self._folder.glob("worker-*.json"):
            pid = int(path.stem.removeprefix("worker-"))
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                with suppress(OSError):
                    worker_file(self._folder, pid).unlink()
                add_up(self._folder / METRICS, pid)
                remove_old(self._folder / METRICS)
            except PermissionError:
                continue
