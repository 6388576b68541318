"""The slot: the policies that this process serves, or the reason why there is none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from registry.rules.reference import shown
from serve.errors import ApiError
from serve.policy.serving import Serving
from serve.run_folder import Followed, Refused, Served, WorkerState, note_start, worker_file, write_file


class Slot:
    """Holds one Serving for each reference. Reading needs no lock: a Serving is replaced whole, between two requests.

    Attributes:
        folder: the server's run folder.
        servings: the policy for each reference, or None; the first is the active one, which answers by default.
        reason: why there is no active policy.
        followed: what the follower wrote last.
        ready: whether each reference was, at some time since this process began, served or known to be unavailable.
        workers: number of processes that serve the same.
        draining: whether the worker was told to stop.
        place: of this worker among the server's workers; its replacement takes it over.
        poll_now: makes the follower poll the registry at once.
    """

    def __init__(self, folder: Path, references: tuple[str | None, ...] = (None,), workers: int = 1) -> None:
        """Starts empty.

        Args:
            folder: the server's run folder.
            references: the references to follow; None for a folder.
            workers: number of processes that serve the same.
        """
        self.folder = folder
        self.references = references
        self.servings: tuple[Serving | None, ...] = (None,) * len(references)
        self.reason = "starting"
        self.followed = Followed()
        self.ready = False
        self.workers = workers
        self.draining = False
        self.place = 0
        self.poll_now: Callable[[], None] = lambda: None
        self._written: WorkerState | None = None

    @property
    def serving(self) -> Serving | None:
        """The active policy, which answers by default."""
        return self.servings[0]

    @property
    def is_pinned(self) -> bool:
        """Whether the digest of the active policy was given by somebody other than who wrote the artifact."""
        answers = self.followed.answers
        return self.serving is not None and self.serving.engine.pinned and all(each.pinned for each in answers[:1])

    @property
    def waits_for(self) -> str:
        """A message that says why it is not ready."""
        return self.reason if self.serving is None else "further versions are still being loaded"

    def serve(self, index: int, serving: Serving, stage: str | None) -> None:
        """Serves it for reference `index` from the next request on; requests in flight keep the policy they have."""
        staged = dataclasses.replace(serving, stage=stage)
        self.servings = (*self.servings[:index], staged, *self.servings[index + 1 :])

    def of_version(self, version: str) -> Serving | None:
        """Returns the policy that is served under a semantic version."""
        return next((serving for serving in self.servings if serving and serving.version == version), None)

    def of_digest(self, digest: str) -> Serving | None:
        """Returns the policy with that digest, for whichever reference it is served."""
        return next((serving for serving in self.servings if serving and serving.digest == digest), None)

    def served(self) -> tuple[Served, ...]:
        """Lists what is served: one entry per reference that has a policy."""
        return tuple(
            Served(
                serving.version,
                serving.digest,
                serving.stage,
                shown(reference) if reference else None,
                serving.card.name,
                serving.engine.backend,
                serving.engine.device.name,
            )
            for serving, reference in zip(self.servings, self.references, strict=True)
            if serving
        )

    def publish(self, refused: tuple[Refused, ...] = ()) -> None:
        """Writes what this worker serves and refused, for the server's other processes, when that has changed."""
        self.ready = self.ready or self._has_everything({each.digest for each in refused})
        state = WorkerState(self.served(), refused, self.ready, self.place)
        if state != self._written:
            write_file(worker_file(self.folder, os.getpid()), state)
            self._written = state
            note_start(self.folder, self.workers)

    def _has_everything(self, refused: set[str]) -> bool:
        """Whether the first reference is served, and each other one is served or known to be unavailable."""
        answers = self.followed.answers
        return self.serving is not None and all(
            serving is not None
            or (
                index < len(answers)
                and (answers[index].reason or {answers[index].wanted, answers[index].digest} & refused)
            )
            for index, serving in enumerate(self.servings)
        )


def find_serving(slot: Slot, version: str | None, name: str | None) -> Serving:
    """Returns the policy with the requested version and name, by default the active one.

    Raises:
        ApiError: not_ready or version_not_found.
    """
    serving = slot.serving if version is None else slot.of_version(version)
    if serving is None and not slot.ready:
        raise ApiError("not_ready", slot.waits_for)
    if serving is not None and name in (None, serving.card.name):
        return serving
    names = sorted({served.card.name for served in slot.servings if served})
    if name is not None and name not in names:
        raise ApiError("version_not_found", f"this policy is not served here; served: {', '.join(names)}", "name")
    known = ", ".join(dict.fromkeys(served.version for served in slot.served())) or "none yet"
    raise ApiError("version_not_found", f"this version is not served here; served: {known}", "version")
