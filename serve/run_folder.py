"""The small files in a server's run folder by which its processes exchange their state.

follow.json        by the follower: the version that each reference resolves to, and its path in the cache
worker-<pid>.json  by a worker: what it serves, and what it refused
good-<n>.json      by the workers: what reference n was served as last, and its contract; new workers start from it
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
"""Subfolder of the run folder with the counters of each process."""
STATUS_FILE = "POLICY_FOLLOW_STATUS"
"""Environment variable with the path of the follower's file."""
SERVER_PID = "POLICY_SERVER_PID"
"""Environment variable with the process id of the server that the follower belongs to."""
HINT_FD = "POLICY_HINT_FD"
"""Environment variable with the file descriptor where the follower reads hints to poll at once."""
RINGS_FOLDER = "POLICY_RINGS_FOLDER"
"""Environment variable with the folder of the rings that the recording's writer reads."""

Kind = Literal["integrity", "parity", "contract", "timeout", "crash", "memory", "gates", "other"]

STARTED = "started"
"""File in the run folder that exists once all workers have been ready."""
MASTER = "master"
"""File in the run folder with the process id of gunicorn's master."""
STOPPING = "stopping"
"""File in the run folder that exists once the whole server, not one worker, was told to stop, and its sockets end."""

T = TypeVar("T")


class Refused(msgspec.Struct, frozen=True):
    """A version that this server refuses to serve.

    Attributes:
        version: semantic version.
        digest: of its artifact, as recorded in the registry; empty where none is known.
        reason: a message, safe to send to clients.
        kind: category of the reason; a label in metrics.
        since: when it was first refused, seconds since 1970.
    """

    version: str
    digest: str
    reason: str
    kind: Kind
    since: float


class Holdable(msgspec.Struct, frozen=True):
    """A version that a reference meant before, and that workers may hold: not left by a roll-back, nor archived."""

    version: str
    digest: str


class Status(msgspec.Struct, frozen=True):
    """What the follower knows about one reference.

    Attributes:
        path: of the verified artifact in the cache; None while there is none.
        digest: that the artifact was verified against.
        version: semantic version.
        stage: candidate, staging, production or archived.
        wanted: the digest in the registry now; differs from `digest` while that version is unavailable here.
        reason: why there is no artifact yet; safe to send to clients.
        warning: a problem to report although there is an artifact.
        pinned: whether somebody other than who wrote the artifact says which digest it has.
        name: the policy's.
        has_pins: whether the folder of artifacts had a file PINS.
        holdable: earlier versions that workers may hold for the episodes that these began, the latest first.
    """

    path: str | None = None
    digest: str | None = None
    version: str | None = None
    stage: str | None = None
    wanted: str | None = None
    reason: str | None = None
    warning: str | None = None
    pinned: bool = True
    name: str = ""
    has_pins: bool = False
    holdable: tuple[Holdable, ...] = ()


class Followed(msgspec.Struct, frozen=True):
    """Everything that the follower knows: the content of its file.

    Attributes:
        answers: one per reference: `--model` first, then `--also`.
        registry: ok or unreachable.
        polled_at: when the registry answered last, seconds since 1970.
        refused: versions that the follower refused.
        refusal: the registry's error in full when it refused `--model`; the server prints it and ends.
        done: whether polling has ended, because no reference can change any more or because of `refusal`.
        canary: without `wanted` while there is none, with `reason` while it may not answer; None without --canary.
        canary_share: of the episodes, in percent.
    """

    answers: tuple[Status, ...] = ()
    registry: str = "ok"
    polled_at: float | None = None
    refused: tuple[Refused, ...] = ()
    refusal: str | None = None
    done: bool = False
    canary: Status | None = None
    canary_share: float = 0.0


class Served(msgspec.Struct, frozen=True):
    """One version that a worker serves, for the reference `following`, on a backend and a device."""

    version: str
    digest: str
    stage: str | None
    following: str | None
    name: str = ""
    backend: str = ""
    device: str = ""


class WorkerState(msgspec.Struct, frozen=True):
    """What one worker serves, holds and refused, whether it is ready, and its place among the workers.

    Attributes:
        coming: digests of versions that it has loaded, and serves once the other workers have them, too.
        canary: answers its share of the episodes; None without one.
    """

    served: tuple[Served, ...] = ()
    refused: tuple[Refused, ...] = ()
    ready: bool = False
    place: int = 0
    held: tuple[Served, ...] = ()
    coming: tuple[str, ...] = ()
    canary: Served | None = None

    @property
    def answering(self) -> tuple[Served, ...]:
        """What it serves, the canary too."""
        return self.served if self.canary is None else (*self.served, self.canary)

    def has(self, digest: str) -> bool:
        """Whether it answers with that version, or never will."""
        known = {each.digest for each in (*self.answering, *self.held)} | {each.digest for each in self.refused}
        return digest in known or digest in self.coming


def write_file(path: Path, value: Any) -> None:
    """Writes a temporary file and renames it, so that a reader sees the old content or the new."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_bytes(msgspec.json.encode(value))
    os.replace(beside, path)


def read_file(path: Path, kind: type[T]) -> T | None:
    """Reads what `write_file` wrote; returns None for a missing or unreadable file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def worker_file(folder: Path, pid: int) -> Path:
    """Path of a worker's state file."""
    return folder / f"worker-{pid}.json"


def worker_states(folder: Path) -> list[WorkerState]:
    """Reads the states of all live workers."""
    found = (read_file(path, WorkerState) for path in sorted(folder.glob("worker-*.json")))
    return [state for state in found if state is not None]


def ready_workers(folder: Path) -> int:
    """Counts the ready workers in a server's run folder."""
    return sum(state.ready for state in worker_states(folder))


def note_start(folder: Path, workers: int) -> bool:
    """Whether all workers of a server have been ready at once; the first call that sees it creates STARTED."""
    started = folder / STARTED
    if not started.exists():
        if ready_workers(folder) < workers:
            return False
        with contextlib.suppress(OSError):  # on a full disk the next call counts again
            started.touch()
    return True


FOLLOW_FILE = "follow.json"


RUN_FOLDER = "carla-serve-"
"""Prefix of a run folder's name in the system's temporary folder."""


def kind_of(error: Exception) -> Kind:
    """Returns the category of an error, for a refusal."""
    if isinstance(error, ParityError):
        return "parity"
    if isinstance(error, CrashError):
        return "crash"
    return "integrity" if isinstance(error, ArtifactError) else "other"


def list_refused(folder: Path) -> list[Refused]:
    """Lists what a server's follower and workers refused lately, one entry per digest, or per reason without any.

    Args:
        folder: the server's run folder.
    """
    followed = read_file(folder / FOLLOW_FILE, Followed) or Followed()
    every = [*followed.refused, *(refused for state in worker_states(folder) for refused in state.refused)]
    found: dict[str, Refused] = {}
    for refused in sorted(every, key=lambda refused: refused.since):
        found.setdefault(refused.digest or f"{refused.version} {refused.reason}", refused)
    return list(found.values())
