"""The slot: the policies that this process serves, or the reason why there is none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from registry.rules.reference import canary_of, shown
from serve.policy.canary import Canary
from serve.policy.held import Held, HeldVersion, held_after
from serve.policy.serving import Serving
from serve.run_folder import Followed, Refused, Served, WorkerState, note_start, worker_file, write_file
from serve.telemetry.version_names import VERSIONS

T = TypeVar("T")


class Policies(NamedTuple):
    """The policies of all references at one moment; replaced whole, so that a reader misses none that moves.

    Attributes:
        servings: the policy for each reference, or None; the first is the active one, which answers by default.
        coming: for each reference the version that will be active once all workers have it; it answers episodes that
            another worker began with it.
        held: for each reference the older versions that still answer the episodes that they began.
        canary: beside the first reference; None without one.
    """

    servings: tuple[Serving | None, ...]
    coming: tuple[Serving | None, ...]
    held: tuple[Held, ...]
    canary: Canary | None = None

    @property
    def beside(self) -> tuple[Serving, ...]:
        """Those that only answer episodes: those that come, the canary, and those that are held."""
        coming = (serving for serving in self.coming if serving)
        canary = (self.canary.serving,) if self.canary else ()
        return (*coming, *canary, *(each.serving for versions in self.held for each in versions))

    @property
    def every(self) -> tuple[Serving, ...]:
        """All of them: those that are served first."""
        return (*(serving for serving in self.servings if serving), *self.beside)

    def of_first(self) -> tuple[Serving | None, ...]:
        """Those that may answer an episode of the first reference."""
        canary = self.canary.serving if self.canary else None
        return (self.servings[0], self.coming[0], canary, *(each.serving for each in self.held[0]))


class Slot:
    """Holds one Serving for each reference. Reading needs no lock: a Serving is replaced whole, between two requests.

    Attributes:
        folder: the server's run folder.
        policies: all policies; who needs more than one kind reads them here, once.
        servings: those of `policies`, and likewise `coming` and `held`.
        canary: that of `policies`.
        beginning: the canary while episodes may begin with it, else None.
        every: all policies that may answer a request: those that are served, then those that only answer episodes.
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
        none: tuple[Serving | None, ...] = (None,) * len(references)
        self._replace(Policies(none, none, ((),) * len(references)))
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

    def serve(self, index: int, serving: Serving, stage: str | None, replaced: HeldVersion | None = None) -> None:
        """Serves it for reference `index` from the next request on; requests in flight keep the policy they have.

        Args:
            index: of the reference.
            serving: the policy.
            stage: its stage in the registry.
            replaced: the policy that it replaces, if that is to be held.
        """
        before = self.servings[index]
        staged = dataclasses.replace(serving, stage=stage)
        coming, held = self.policies.coming, self.policies.held
        after = held_after(held[index], staged, replaced)
        served = _at(self.servings, index, staged)
        coming, held = _at(coming, index, None), _at(held, index, after)
        self._replace(self.policies._replace(servings=served, coming=coming, held=held))
        if before is None or before.digest != serving.digest:
            self._name_versions()

    def put_canary(self, canary: Canary | None, replaced: HeldVersion | None = None) -> None:
        """Notes which version is the canary from the next request on; `replaced` is the one before, if that is held."""
        before = self.policies.canary
        held = self.held if replaced is None else _at(self.held, 0, held_after(self.held[0], self.serving, replaced))
        self._replace(self.policies._replace(canary=canary, held=held))
        if canary is not None and (before is None or before.serving.digest != canary.serving.digest):
            self._name_versions()

    def _name_versions(self) -> None:
        """Gives names in metrics to what drives now: the active version and the canary before all others.

        It is noted again whenever another version begins, or a few canaries would take the active one's name.
        """
        canary = self.canary.serving if self.canary else None
        for serving in (*reversed(self.servings[1:]), canary, self.servings[0]):
            if serving is not None:
                VERSIONS.begin(serving.version)

    def prepare(self, index: int, serving: Serving) -> None:
        """Notes the version that comes next for reference `index`."""
        self._replace(self.policies._replace(coming=_at(self.coming, index, serving)))

    def pass_over(self, index: int, passed: HeldVersion | None) -> None:
        """Notes that what comes for reference `index` will not be active here; other workers may have served it.

        Args:
            index: of the reference.
            passed: that version, to be held for the episodes that those began; None if it is not.
        """
        coming, held = self.policies.coming, self.policies.held
        after = held[index] if passed is None else held_after(held[index], self.servings[index], passed)
        self._replace(self.policies._replace(coming=_at(coming, index, None), held=_at(held, index, after)))

    def hold(self, index: int, held: Held) -> None:
        """Holds these older versions for reference `index`, and gives up all others."""
        self._replace(self.policies._replace(held=_at(self.held, index, held)))

    def _replace(self, policies: Policies) -> None:
        self.policies = policies  # first: what `servings` has lost is found here already
        self.servings, self.coming, self.held, self.canary = policies
        chooses = self.canary is not None and self.canary.is_active and self.canary.share > 0
        self.beginning = self.canary if chooses else None
        self.every = policies.every

    def of_version(self, version: str) -> Serving | None:
        """Returns the policy that is served under a semantic version."""
        return next((serving for serving in self.servings if serving and serving.version == version), None)

    def beside_of_version(self, version: str) -> Serving | None:
        """Returns the policy that has a semantic version and only answers the episodes that it began."""
        return next((serving for serving in self.policies.beside if serving.version == version), None)

    def of_beginning(self, episode_id: str) -> Serving | None:
        """Returns the policy with which an episode begins: the canary, if the episode belongs to that."""
        canary = self.beginning
        return canary.serving if canary is not None and canary.begins(episode_id) else self.serving

    def of_digest(self, digest: str) -> Serving | None:
        """Returns the policy with that digest, for whichever reference it is served or held."""
        return next((serving for serving in self.policies.every if serving.digest == digest), None)

    def of_episode(self, digest: str, version: str | None) -> Serving | None:
        """Returns the policy that goes on with an episode which the version with that digest began.

        Args:
            digest: of that version.
            version: the semantic version that the request asks for; None for the active one and what that replaced.
        """
        policies = self.policies
        if version is not None:
            return next((s for s in policies.every if s.digest == digest and s.version == version), None)
        return next((s for s in policies.of_first() if s is not None and s.digest == digest), None)

    def served(self) -> tuple[Served, ...]:
        """Lists what is served: one entry per reference that has a policy."""
        pairs = zip(self.servings, self.references, strict=True)
        return tuple(_describe(serving, reference) for serving, reference in pairs if serving)

    def held_versions(self) -> tuple[tuple[HeldVersion, Served], ...]:
        """Lists what is held, each with its description."""
        pairs = zip(self.held, self.references, strict=True)
        return tuple((each, _describe(each.serving, reference)) for held, reference in pairs for each in held)

    def canary_version(self) -> Served | None:
        """Describes the canary; None without one."""
        reference = self.references[0]
        if self.canary is None or reference is None:
            return None
        return _describe(self.canary.serving, canary_of(reference))

    def publish(self, refused: tuple[Refused, ...] = ()) -> None:
        """Writes what this worker serves and refused, for the server's other processes, when that has changed."""
        self.ready = self.ready or self._has_everything({each.digest for each in refused})
        coming, canary = tuple(serving.digest for serving in self.coming if serving), self.canary_version()
        if self.canary is not None and not self.canary.is_active:
            coming, canary = (*coming, self.canary.serving.digest), None
        held = tuple(described for _, described in self.held_versions())
        state = WorkerState(self.served(), refused, self.ready, self.place, held, coming, canary)
        if state != self._written:
            write_file(worker_file(self.folder, os.getpid()), state)
            self._written = state
            note_start(self.folder, self.workers)

    def _has_everything(self, refused: set[str]) -> bool:
        """Whether the first reference is served, and each other one is served or known to be unavailable."""
        answers, canary = self.followed.answers, self.followed.canary
        is_canary_open = canary is not None and not canary.reason and self.canary is None
        if canary is not None and is_canary_open and canary.wanted and canary.wanted not in refused:
            return False
        return self.serving is not None and all(
            serving is not None
            or (
                index < len(answers)
                and (answers[index].reason or {answers[index].wanted, answers[index].digest} & refused)
            )
            for index, serving in enumerate(self.servings)
        )


def _at(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _describe(serving: Serving, reference: str | None) -> Served:
    following, engine = shown(reference) if reference else None, serving.engine
    return Served(
        serving.version, serving.digest, serving.stage, following, serving.card.name, engine.backend, engine.device.name
    )
