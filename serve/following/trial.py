"""Loads a version in a process of its own before any worker loads it.

A version that crashes, hangs or needs more memory than is left ends only that process.
Run as `python -m serve.following.trial PATH DIGEST FOLDER`, with the server's settings in the environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from carla_mlflow.contract.card import parse_card
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.errors import ArtifactError, CarlaMlflowError, CrashError
from carla_mlflow.escaping import one_line
from carla_mlflow.own_process import values_of, write_values
from serve.flags import settings_from_environment
from serve.following.attempts import Attempts, Record
from serve.following.memory_left import anonymous_memory, memory_left
from serve.policy.loading import Failure, import_backend, load
from serve.policy.serving import Serving
from serve.run_folder import worker_states
from serve.settings import Settings
from serve.telemetry.log_setup import start_logging

RETRY_S = 1.0
"""Seconds before a worker checks again on an artifact that another worker is trying."""
START_S = 120.0
"""Most seconds for the process to start and to import its libraries."""
SPARE = 0.1
"""Fraction of the memory left that stays free for requests."""
_STOPS = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
MB = 1e6


class StoppedError(CarlaMlflowError):
    """The trial failed or was stopped; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Watch:
    """Watches a trial: stops it when it takes too long, or needs more memory than is left for all workers.

    Attributes:
        needs: most bytes that loading took so far.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        """`settings` and run `folder` are the server's; workers that a cluster started are counted in the folder."""
        self._left = int((1 - SPARE) * memory_left())
        self._workers = max(settings.workers, len(worker_states(folder)))
        self._load_timeout_s = settings.load_timeout_s
        self._ends, self._base, self.needs = time.monotonic() + START_S, 0, 0

    def begins(self, base: int) -> None:
        """Called when the libraries are imported and loading begins; `base` is the bytes that the process holds."""
        self._base, self._ends = base, time.monotonic() + self._load_timeout_s

    def __call__(self, pid: int) -> None:
        """Raises StoppedError when the process takes too long or needs too much memory."""
        holds = anonymous_memory(pid)
        if self._base:
            self.needs = max(self.needs, holds - self._base)
        self.check(holds, self.needs)
        if time.monotonic() > self._ends:
            text = f"loading and warming up took longer than --load-timeout-s ({self._load_timeout_s:g} s)"
            late = f"the process for the test load did not start within {START_S:g} s"
            raise StoppedError(Failure(text if self._base else late, "timeout"))

    def check(self, holds: int, needs: int) -> None:
        """Raises StoppedError when the bytes it holds, or those that all workers need, are more than is left."""
        if max(holds, needs * self._workers) > self._left:
            text = f"{self._workers} × {max(needs, holds // self._workers) / MB:,.0f} MB"
            raise StoppedError(
                Failure(f"loading needs {text} or more, and {self._left / MB:,.0f} MB of memory are left", "memory")
            )


def find_failure(path: Path, digest: str | None, settings: Settings, folder: Path) -> Failure | None:
    """Returns why workers must not load an artifact here; None if it was shown to load.

    Args:
        path: of the artifact.
        digest: that it is pinned to; None for a folder that is served unpinned.
        settings: of the server.
        folder: the server's run folder.
    """
    attempts = Attempts.of(settings, folder, digest or str(path))
    known = attempts.read()
    if known.wait_s:
        return crash(known, known.wait_s)
    watch, how = Watch(settings, folder), _how(settings)
    try:
        if not known.deaths and known.loads == how:
            watch.check(0, known.needs)
        else:
            with attempts.trying():
                _try(path, digest, settings, folder, watch)
            if not known.deaths:  # else a worker has to survive loading it first
                attempts.loaded(how, watch.needs)
    except StoppedError as stopped:
        return stopped.failure
    except CrashError as error:
        if error.code in _STOPS:
            return Failure("the process for the test load was told to stop", "other")
        attempts.died(one_line(error))
        known = attempts.read()
        return crash(known, known.wait_s)
    return None


def load_carefully(
    path: Path, digest: str | None, settings: Settings, folder: Path, begins: Callable[[], None] = lambda: None
) -> Serving | Failure:
    """Loads an artifact in this process; one that killed a process is first tried in another, with growing waits.

    Args:
        path: of the artifact.
        digest: that it is pinned to; None for a folder that is served unpinned.
        settings: of the server.
        folder: the server's run folder.
        begins: called when loading in this process begins.
    """
    attempts = Attempts.of(settings, folder, digest or str(path))
    with contextlib.ExitStack() as stack:
        known = attempts.read()
        if known.deaths:
            if not stack.enter_context(attempts.alone()):
                return crash(known, RETRY_S)  # another worker is trying it
            failure = find_failure(path, digest, settings, folder)
            if failure:
                return failure
        begins()
        with attempts.trying():
            outcome = load(path, digest, settings, folder)
        if known.deaths:
            attempts.loaded()
    return outcome


def crash(known: Record, wait_s: float) -> Failure:
    """Returns the Failure of an artifact that killed a process; the message does not change with each death."""
    return Failure(known.how, "crash", wait_s)


def _try(path: Path, digest: str | None, settings: Settings, folder: Path, watch: Watch) -> None:
    arguments = [str(path), digest or "", str(folder)]
    for message in values_of("serve.following.trial", arguments, settings.to_environment(), watch):
        if "holds" in message:
            watch.begins(message["holds"])
        if "failure" in message:
            raise StoppedError(Failure(*message["failure"]))


def _how(settings: Settings) -> str:
    """Returns a hash of everything besides the artifact that decides whether it loads here."""
    parts = [settings.device, settings.backend, settings.trust_types, sys.version]
    for name in ("carla-mlflow", "torch", "onnxruntime", "openvino", "numpy", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(importlib.metadata.version(name))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load_here(path: Path, digest: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Runs in the trial's process; yields the bytes held before loading, and the failure if there is one."""
    settings = settings_from_environment(os.environ)
    start_logging(settings)
    with contextlib.suppress(ArtifactError, OSError, ImportError):  # loading reports it
        named = parse_card((path / CARD_NAME).read_bytes()).backend if settings.backend == "card" else settings.backend
        import_backend(named)
    yield {"holds": anonymous_memory(os.getpid())}
    outcome = load(path, digest or None, settings, folder)
    if isinstance(outcome, Failure):
        yield {"failure": [outcome.reason, outcome.kind]}


if __name__ == "__main__":
    sys.exit(write_values(lambda: _load_here(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
