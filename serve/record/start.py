"""Where a server's rings are, what they carry, and how a worker begins to record."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.folder_lock import hold, remove_unused
from serve.kept_process import KeptProcess
from serve.limits import RING_BYTES
from serve.record.hook import RECORDERS
from serve.run_folder import RINGS_FOLDER, RUN_FOLDER
from serve.settings import Settings
from serve.shared_memory import SHARED_MEMORY, is_usable

if TYPE_CHECKING:
    from serve.record.schema import Images

RINGS = "rings"
"""The rings' folder in the run folder, where there is no shared memory."""
BESIDE = f"-{RINGS}"
"""What the name of the rings' folder in shared memory has after that of the run folder: a writer may outlive this."""

STOP_S = 15.0
"""Seconds for a stopping writer to write what is left; then it is killed."""

log = logging.getLogger("serve.record")

_IN_USE: list[IO[str]] = []


class RingPlan(NamedTuple):
    """What the rings carry, for all their readers: each takes of it what it wants.

    Attributes:
        share: of the episodes.
        images: `keep` or `none`.
    """

    share: float
    images: Images


def ring_plan(settings: Settings) -> RingPlan | None:
    """What the workers put into their rings; None where nobody reads them."""
    if not settings.record and not settings.shadow:
        return None
    shares = [settings.record_share] if settings.record else []
    shares += [settings.shadow_share] if settings.shadow else []
    has_images = bool(settings.shadow) or settings.record_images != "none"
    return RingPlan(max(shares), "keep" if has_images else "none")


def rings_folder(run_folder: Path) -> Path:
    """The folder of a server's rings: in shared memory if there is some."""
    return SHARED_MEMORY / f"{run_folder.name}{BESIDE}" if is_usable() else run_folder / RINGS


def rings_bytes(settings: Settings) -> int:
    """What the rings of a server's workers will take of the shared memory."""
    return 0 if ring_plan(settings) is None else RING_BYTES * settings.workers


def remove_left_rings() -> None:
    """Removes the rings of servers whose processes were all killed: nobody else would free their memory."""
    for left in SHARED_MEMORY.glob(f"{RUN_FOLDER}*{BESIDE}"):
        remove_unused(left)


def start_recorder(settings: Settings, run_folder: Path) -> None:
    """Begins to record in this process, if the settings say so; to be called once, in the worker's process.

    Where there is no memory for a ring, the worker serves without recording, and the log says so.
    """
    plan = ring_plan(settings)
    if plan is None:
        return
    try:
        folder = rings_folder(run_folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _IN_USE.append(hold(folder))
        from serve.record.recorder import Recorder

        RECORDERS.append(Recorder(folder, plan.share, plan.images))
        pack_between(ThreadPoolExecutor(1, "recorder").submit)  # not in a request's thread, before its answer
    except (CarlaMlflowError, OSError) as error:
        log.error("this worker records nothing: %s", one_line(error))


def leave_rings(run_folder: Path) -> None:
    """Frees the rings' folder if no other process uses it; to be called after this one has stopped recording."""
    while _IN_USE:
        _IN_USE.pop().close()
    remove_unused(rings_folder(run_folder))


def pack_between(call_soon: Callable[..., Any]) -> None:
    """Has this process's recorder pack between requests rather than at once.

    Args:
        call_soon: calls a function soon, from another thread or the event loop; may be called from any thread.
    """
    for recorder in RECORDERS:
        recorder.soon = call_soon


def check_folder(settings: Settings) -> str | None:
    """Creates the folder of `--record`; returns why there can be no recording or no shadow here, or None."""
    needs = "--record" if settings.record else "--shadow" if settings.shadow else ""
    if needs and importlib.util.find_spec("pyarrow") is None:
        return f"{needs} needs pyarrow, which is not installed: pip install 'carla-mlflow[score]'"
    if not settings.record:
        return None
    folder = Path(settings.record)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch(mode=0o600)
        with contextlib.suppress(OSError):
            probe.unlink()
    except OSError as error:
        return f"--record {folder}: {error.strerror}; name a folder that this user may write"
    return None


class WriterProcess(KeptProcess):
    """Runs the writer beside the server. It ends when its parent does, once it has written what the workers left."""

    def __init__(self, settings: Settings, run_folder: Path) -> None:
        self._rings = rings_folder(run_folder)
        self._rings.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._in_use = hold(self._rings)
        text = "the recording's writer ended; the rings keep what comes as long as they can"
        super().__init__(settings, run_folder, "serve.record.writer_process", {RINGS_FOLDER: str(self._rings)}, text)

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts it with SIGTERM blocked: until it can handle that, it would end without having written anything."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            return super()._start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self, wait_s: float = STOP_S) -> None:
        """Ends the writer once it has written the rest, and frees the rings' memory."""
        if self._process.poll() is not None:  # one that died just now; the next one writes what is left
            self._process = self._start()
        super().stop(wait_s)
        self._in_use.close()
        remove_unused(self._rings)
