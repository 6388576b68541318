"""gunicorn's master process with its workers, and what runs beside them: follower, recording's writer, shadow."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.sock import close_sockets

from carla_mlflow.cli import DONE, REFUSED
from carla_mlflow.client.unix_address import socket_path
from carla_mlflow.errors import RefusedError
from serve.folder_lock import hold, remove_unused
from serve.following.attempts import withdraw
from serve.following.follower_process import FollowerProcess
from serve.kept_process import KeptProcess
from serve.policy.slot import Slot
from serve.process.unix_listener import UnixListener
from serve.record.hook import stop_records
from serve.record.start import WriterProcess, rings_bytes, start_recorder
from serve.run_folder import (
    FOLLOW_FILE,
    MASTER,
    METRICS,
    RUN_FOLDER,
    STOPPING,
    Followed,
    WorkerState,
    read_file,
    worker_file,
)
from serve.settings import Settings
from serve.shadow.shadow_process import ShadowProcess
from serve.shared_memory import SHARED_MEMORY, is_usable, temporary_folder, temporary_folders
from serve.telemetry.log_setup import ServerLog
from serve.telemetry.recent_counts import remove_old

BACKLOG = 4096
"""Connections that may wait to be accepted."""


WORKER_CLASSES = {
    "loop": "serve.process.loop_worker.LoopWorker",
    "gthread": "serve.process.threaded_worker.DrainingWorker",
}


class PolicyServer(BaseApplication):  # type: ignore[misc]
    """gunicorn as a library: it manages the processes, the signals and the graceful stop."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        in_use: IO[str],
        kept: Sequence[KeptProcess],
        listener: UnixListener | None,
    ) -> None:
        self._settings = settings
        self._bind = settings.address if listener is None else f"fd://{listener.detach()}"
        self._in_use, self._kept = in_use, kept
        self._slot = Slot(folder, settings.references, settings.workers)
        for process in kept:
            if isinstance(process, FollowerProcess):
                self._slot.poll_now = process.poll_now
        super().__init__()

    def run(self) -> None:
        """Runs until the server is told to stop."""
        KeepingArbiter(self, self._slot.folder, self._kept).run()

    def load_config(self) -> None:
        settings = self._settings
        for name, value in {
            "bind": self._bind,
            "workers": settings.workers,
            "worker_class": WORKER_CLASSES[settings.worker_class],
            "certfile": settings.certfile or None,
            "keyfile": settings.keyfile or None,
            "backlog": BACKLOG,
            "timeout": max(30, math.ceil(2 * settings.forward_timeout_s)),
            "threads": 8,
            "keepalive": 75,
            "graceful_timeout": math.ceil(settings.drain_s + settings.grace_s + 1),
            "worker_tmp_dir": str(SHARED_MEMORY) if is_usable() else None,
            "control_socket_disable": True,
            "loglevel": settings.log_level,
            "logger_class": ServerLog,
            "proc_name": "carla-serve",
            "preload_app": True,
            "post_worker_init": self._fill,
            "worker_exit": lambda _, worker: self._leave(worker),
            "child_exit": lambda _, worker: self._forget(worker),
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from serve.web.app import create_app

        return create_app(self._settings, self._slot)

    def _fill(self, worker: Any) -> None:
        from serve.following.startup import leave_to_others, start_filling
        from serve.telemetry.observers import start_observers

        self._slot.place = worker.place
        start_observers(self._settings)
        start_recorder(self._settings, self._slot.folder)
        start_filling(self._slot, self._settings, self._slot.folder / FOLLOW_FILE)

        def alive() -> None:
            worker.notify()
            if os.getppid() != worker.ppid:  # the master is gone
                sys.exit(0)

        leave_to_others(self._slot, alive)

    def _leave(self, worker: Any) -> None:
        """Called in a worker that ends, by itself or by a signal."""
        stop_records()
        withdraw()
        if os.getppid() != worker.ppid:  # the master is gone, and can't clean up
            self._in_use.close()
            remove_unused(self._slot.folder)

    def _forget(self, worker: Any) -> None:
        """Removes the files of a worker that has ended, and keeps its counters."""
        from serve.telemetry.dead_counters import add_up

        worker_file(self._slot.folder, worker.pid).unlink(missing_ok=True)
        remove_old(self._slot.folder / METRICS)
        add_up(self._slot.folder / METRICS, worker.pid)
        if hasattr(worker, "forgotten"):
            worker.forgotten()


class KeepingArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's master process, which also keeps the processes beside it alive.

    It stops old workers only once new ones are ready.
    """

    LISTENERS: list[Any]

    def __init__(self, app: PolicyServer, folder: Path, kept: Sequence[KeptProcess]) -> None:
        super().__init__(app)
        self._folder, self._kept = folder, kept

    def reload(self) -> None:
        """SIGHUP: starts new workers; `manage_workers` stops the old ones when the new ones are ready."""
        if len(self.WORKERS) <= self.num_workers:
            for _ in range(self.num_workers):
                self.spawn_worker()

    def stop(self, graceful: bool = True) -> None:
        """Stops the workers. The path of a Unix socket stays until they have ended, as they still accept a while."""
        if not (self.systemd or self.master_pid or self.reexec_pid):  # else another server goes on with the sockets
            (self._folder / STOPPING).touch()
        for process in self._kept:
            process.begin_stop()
        close_sockets(self.LISTENERS, unlink=False)
        self.LISTENERS = []
        super().stop(graceful)

    def manage_workers(self) -> None:
        """Called every second: keeps the number of workers at the configured one."""
        by_age = [pid for pid, _ in sorted(self.WORKERS.items(), key=lambda item: item[1].age)]
        old, new = by_age[: -self.num_workers], by_age[-self.num_workers :]
        if any(map(self._is_ready, old)) and not all(map(self._is_ready, new)):
            return
        super().manage_workers()

    def _is_ready(self, pid: int) -> bool:
        return (read_file(worker_file(self._folder, pid), WorkerState) or WorkerState()).ready

    def murder_workers(self) -> None:
        """Called every second, and whenever a process has ended."""
        super().murder_workers()
        for process in self._kept:
            process.keep_alive()


def raise_file_limit() -> None:
    """Raises the limit of open files for this process and its children to the maximum: each connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system that does not grant its own hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(settings: Settings) -> UnixListener | None:
    """Binds a Unix socket. For TCP only tries to, as gunicorn itself would retry for five seconds.

    Raises:
        RefusedError: the server can't listen there; says why.
    """
    where = f"can't listen on {settings.address}"
    try:
        if settings.is_unix:
            return UnixListener(socket_path(settings.host), int(settings.socket_mode, 8), BACKLOG)
        _check_port(settings)
    except RefusedError as error:
        raise RefusedError(f"{where}: {error}") from error
    except OSError as error:
        why = f"{error.strerror}; choose another --port, or a --host of this machine"
        raise RefusedError(f"{where}: {why}") from error
    return None


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((settings.host, settings.port))


def _beside(settings: Settings, run_folder: Path) -> list[KeptProcess]:
    """Starts the processes beside the workers."""
    kept: list[KeptProcess] = []
    if not settings.is_folder:
        kept.append(FollowerProcess(settings, run_folder / FOLLOW_FILE))
    if settings.record:
        kept.append(WriterProcess(settings, run_folder))
    if settings.shadow:
        kept.append(ShadowProcess(settings, run_folder))
    return kept


def run_server(settings: Settings, listener: UnixListener | None) -> int:
    """Serves until the server is told to stop; returns the command's exit code.

    Args:
        settings: of the server.
        listener: its Unix socket; None for TCP.
    """
    for folder in temporary_folders():
        for left in folder.glob(f"{RUN_FOLDER}*"):
            remove_unused(left)  # the run folder or the rings of a server whose processes were all killed
    run_folder = Path(tempfile.mkdtemp(prefix=RUN_FOLDER, dir=temporary_folder(rings_bytes(settings))))
    in_use = hold(run_folder)
    counters = run_folder / METRICS
    counters.mkdir()
    (run_folder / MASTER).write_text(str(os.getpid()))
    assert "prometheus_client" not in sys.modules, "imported too early, it would count nothing: it reads this but once"
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counters)
    kept = _beside(settings, run_folder)
    master = os.getpid()
    try:
        PolicyServer(settings, run_folder, in_use, kept, listener).run()
    except SystemExit as stop:
        if os.getpid() != master:  # a worker, which also exits by SystemExit
            raise
        followed = read_file(run_folder / FOLLOW_FILE, Followed)
        if followed and followed.refusal:
            print(f"carla-serve: {followed.refusal}", file=sys.stderr)
            return REFUSED
        return int(stop.code or 0)
    finally:
        if os.getpid() == master:
            for process in kept:
                process.stop()
            shutil.rmtree(run_folder, ignore_errors=True)
    return DONE
