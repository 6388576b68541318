"""What the processes of one server tell each other, as small files in its run folder.

follow.json        the follower's: what each reference means, and where that lies in the cache
worker-<pid>.json  a worker's: what it serves, and what it refused
good-<n>.json      what reference n was served as last, and its contract: where a new worker starts
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from carla_mlflow.errors import ArtifactError, CrashError, ParityError

METRICS = "metrics"
"""The folder in the run folder where each process counts."""
STATUS_FILE = "POLICY_FOLLOW_STATUS"
"""The environment variable that names the follower's file."""
SERVER_PID = "POLICY_SERVER_PID"
"""The environment variable that says whose follower it is."""
HINT_FD = "POLICY_HINT_FD"
"""The environment variable that says from where the follower reads hints to look at once."""

Kind = Literal["integrity", "parity", "contract", "timeout", "crash", "memory", "other"]

STARTED = "started"
"""A file in a server's run folder: every worker has been ready."""
MASTER = "master"
"""A file that holds the number of the process that starts the others."""

T = TypeVar("T")


class Refused(msgspec.Struct, frozen=True):
    """A version that is not let drive here.

    Attributes:
        version: semantic version.
        digest: of its artifact, as the registry pins it.
        reason: in words, fit for the wire.
        kind: what sort of reason; a label in metrics.
        since: when it was first refused, seconds since 1970.
    """

    version: str
    digest: str
    reason: str
    kind: Kind
    since: float


class Status(msgspec.Struct, frozen=True):
    """What the follower knows of one reference.

    Attributes:
        path: of the verified artifact in the cache; None while there is none.
        digest: that it was verified against.
        version: semantic version.
        stage: candidate, staging, production or archived.
        wanted: the digest that the registry means; not `digest` while that one can't be had.
        reason: why there is no artifact yet; fit for the wire.
        warning: what to know although there is one.
    """

    path: str | None = None
    digest: str | None = None
    version: str | None = None
    stage: str | None = None
    wanted: str | None = None
    reason: str | None = None
    warning: str | None = None


class Followed(msgspec.Struct, frozen=True):
    """Everything that the follower knows.

    Attributes:
        answers: one a reference: `--model` first, then `--also`.
        registry: ok or unreachable.
        looked_at: when the registry answered last, seconds since 1970.
        refused: versions that can't be had, as the registry has them.
        refusal: the registry's own no, whole, for the terminal: there is nothing to wait for.
        done: whether no reference can ever mean something else, so that nobody needs to look again.
    """

    answers: tuple[Status, ...] = ()
    registry: str = "ok"
    looked_at: float | None = None
    refused: tuple[Refused, ...] = ()
    refusal: str | None = None
    done: bool = False


class Served(msgspec.Struct, frozen=True):
    """One version that a worker serves, the reference that it is served for, and what runs it there."""

    version: str
    digest: str
    stage: str | None
    following: str | None
    name: str = ""
    backend: str = ""
    device: str = ""


class WorkerState(msgspec.Struct, frozen=True):
    """What one worker serves and refused, whether it has everything that it is to serve, and its place among them."""

    served: tuple[Served, ...] = ()
    refused: tuple[Refused, ...] = ()
    ready: bool = False
    place: int = 0


def write_file(path: Path, value: Any) -> None:
    """Writes beside, then renames: a reader sees the old one or the new one."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_bytes(msgspec.json.encode(value))
    os.replace(beside, path)


def read_file(path: Path, kind: type[T]) -> T | None:
    """What was written there, or None when there is nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def worker_file(folder: Path, pid: int) -> Path:
    """Where a worker tells what it serves."""
    return folder / f"worker-{pid}.json"


def worker_states(folder: Path) -> list[WorkerState]:
    """Of every worker that lives."""
    found = (read_file(path, WorkerState) for path in sorted(folder.glob("worker-*.json")))
    return [state for state in found if state is not None]


def ready_workers(folder: Path) -> int:
    """How many processes of a server are ready. Args: its run folder."""
    return sum(state.ready for state in worker_states(folder))


def note_start(folder: Path, workers: int) -> bool:
    """Whether all workers of a server have been ready at once, which is noted where it is seen first."""
    started = folder / STARTED
    if not started.exists():
        if ready_workers(folder) < workers:
            return False
        with contextlib.suppress(OSError):  # a disk that is full: the next one counts again
            started.touch()
    return True


FOLLOW_FILE = "follow.json"


RUN_FOLDER = "carla-serve-"
"""How the name of a server's run folder begins, in the system's folder for temporary files."""


def kind_of(error: Exception) -> Kind:
    """The sort of reason that an error is."""
    if isinstance(error, ParityError):
        return "parity"
    if isinstance(error, CrashError):
        return "crash"
    return "integrity" if isinstance(error, ArtifactError) else "other"


def list_refused(folder: Path) -> list[Refused]:
    """What one server refused lately, by its follower or by any of its workers, once a digest.

    Args:
        folder: the server's run folder.
    """
    followed = read_file(folder / FOLLOW_FILE, Followed) or Followed()
    every = [*followed.refused, *(refused for state in worker_states(folder) for refused in state.refused)]
    found: dict[str, Refused] = {}
    for refused in sorted(every, key=lambda refused: refused.since):
        found.setdefault(refused.digest, refused)
    return list(found.values())
