"""Moves of a registered version: promote, roll back, archive. Each is checked, journalled, then carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from carla_mlflow.cli import progress
from carla_mlflow.errors import RefusedError
from registry.gates.candidate import Finding, shortfalls
from registry.moves.append import whoami
from registry.moves.state import RegistryState, read_state
from registry.moves.sync import commit, sync
from registry.rules.canary import check_canary
from registry.rules.journal import ALLOWED, MAX_TEXT, OVERRULED, Bake, Kind, Move
from registry.rules.lifecycle import (
    ARCHIVED,
    CANARY,
    LEFT,
    PRODUCTION,
    check_archive,
    check_expected,
    check_promotion,
    check_protected,
)
from registry.rules.listing import UNKNOWN
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.store.store import Store


@dataclass(frozen=True)
class GateResult:
    """What the gates found.

    Attributes:
        findings: those of every gate that was evaluated.
        evidence: what they rest on: MLflow runs, the margins, and contract changes that were allowed.
    """

    findings: Sequence[Finding] = ()
    evidence: tuple[str, ...] = ()

    @property
    def shortfalls(self) -> list[str]:
        """The findings that did not pass, in words; empty when all passed."""
        return list(shortfalls(self.findings))


EvaluateGates = Callable[[Store, RegistryState, PolicyVersion, Path], GateResult]
"""Store, registry state, candidate, cache folder → what the gates found."""


@dataclass(frozen=True)
class MoveOptions:
    """The options of a move.

    Attributes:
        expect: the semantic version that must hold the stage now, `none` for no version; None skips the check.
        reason: why, in words, for the journal.
        force: moves in spite of shortfalls; needs a reason.
        dry_run: evaluates the gates, and writes nothing.
        share: of the episodes, in percent; for canary alone.
        bake: the bake that begins with a promotion; None for none.
        evidence: what the move rests on beside the gates, for the journal.
    """

    expect: str | None = None
    reason: str = ""
    force: bool = False
    dry_run: bool = False
    share: float | None = None
    bake: Bake | None = None
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.force and not self.reason:
            raise RefusedError('--force needs --reason "…": the journal keeps it')
        if len(self.reason) > MAX_TEXT:
            raise RefusedError(f"--reason: {len(self.reason):,} characters; at most {MAX_TEXT:,}")


@dataclass(frozen=True)
class MoveResult:
    """A move that was made, or would be.

    Attributes:
        version: the version after the move.
        to: the stage.
        displaced: the semantic version that held the stage before; None when there was none.
        shortfalls: the findings that were overruled, or, in a dry run, that would refuse the move.
        findings: what each gate found, in words.
        entry: the number of the journal's entry; None when nothing was written.
        share: of the episodes, in percent; None except for canary.
    """

    version: PolicyVersion
    to: str
    displaced: str | None
    shortfalls: list[str]
    findings: list[str]
    entry: int | None
    share: float | None = None


def promote(
    store: Store, reference: Reference, to: str, cache: Path, options: MoveOptions, evaluate: EvaluateGates
) -> MoveResult:
    """Gives `staging`, `production` or `canary` to a version; `canary` again changes its share.

    Raises:
        RefusedError: the move is not allowed, `expect` does not hold, or a gate failed; lists every shortfall.
    """
    if to != CANARY and options.share is not None:
        raise RefusedError("--share is for --to canary: a stage has all episodes or none")
    state = _state(store, reference.name, options)
    return PendingMove(store, store.resolve(reference), "promote", to, options).make(state, cache, evaluate)


def rollback(
    store: Store, name: str, stage: str, cache: Path, options: MoveOptions, evaluate: EvaluateGates
) -> MoveResult:
    """Gives a stage back to the version that held it before; repeated, to the one before that. Ends a canary.

    Raises:
        RefusedError: no version can take it back, `expect` does not hold, or a gate failed; lists every shortfall.
    """
    state = _state(store, name, options)
    if stage == CANARY:
        return _end_canary(store, state, options)
    check_expected(options.expect, state.holder(stage), stage)
    eligible = {version.semver for version in state.versions} - state.holders.archived - {state.holder(stage)}
    earlier = [version for version in state.holders.before.get(stage, ()) if version in eligible]
    if not earlier:
        raise RefusedError(f"{name}: no earlier version can take {stage} again")
    pending = PendingMove(store, state.version(earlier[-1]), "rollback", stage, options)
    return pending.make(state, cache, evaluate)


def _end_canary(store: Store, state: RegistryState, options: MoveOptions) -> MoveResult:
    """Takes the alias away: no gates, as the version in production gets all episodes again."""
    holder = state.holder(CANARY)
    check_expected(options.expect, holder, CANARY)
    if holder is None:
        raise RefusedError(f"{state.name}: there is no canary")
    if holder.startswith(UNKNOWN):
        raise RefusedError(f"canary is held by {holder}, which is no version of ours: take the alias away in MLflow")
    pending = PendingMove(store, state.version(holder), "rollback", f"{LEFT}{CANARY}", options)
    pending.check(state)
    return pending.write(state, GateResult())


def archive(store: Store, reference: Reference, options: MoveOptions) -> MoveResult:
    """Takes a version out of use: no range matches it any more.

    Raises:
        RefusedError: it is archived already, or in production without `force`.
    """
    state = _state(store, reference.name, options)
    pending = PendingMove(store, store.resolve(reference), "archive", ARCHIVED, options)
    pending.check(state)
    return pending.write(state, GateResult())


def _state(store: Store, name: str, options: MoveOptions) -> RegistryState:
    return read_state(store, name) if options.dry_run else sync(store, name)


@dataclass(frozen=True)
class PendingMove:
    """A move before its entry is in the journal."""

    store: Store
    version: PolicyVersion
    kind: Kind
    to: str
    options: MoveOptions

    def check(self, state: RegistryState) -> None:
        """Raises RefusedError unless the registry's state allows the move; checked again just before the entry."""
        semver, stage = self.version.semver, state.stage(self.version.semver)
        if self.to == ARCHIVED:
            check_archive(semver, stage, self.options.force)
            moved = [alias for alias, holder in state.holders.aliases.items() if holder == semver]
        elif self.to.startswith(LEFT):
            if state.holder(CANARY) != semver:
                raise RefusedError(f"canary is held by {state.holder(CANARY) or 'none'}, not by {semver}")
            moved = [CANARY]
        else:
            state.version(semver)
            check_promotion(semver, stage, self.to)
            if self.to == CANARY:
                check_canary(semver, state.holder(PRODUCTION), self.options.share)
            moved = [self.to]
        tags = self.store.model_tags(self.version.name) if moved else {}
        for alias in moved:
            check_protected(tags, alias, whoami())

    def make(self, state: RegistryState, cache: Path, evaluate: EvaluateGates) -> MoveResult:
        """Evaluates the gates, then makes the move."""
        check_expected(self.options.expect, state.holder(self.to), self.to)
        self.check(state)
        self._check_bake(state)
        if state.holder(self.to) == self.version.semver:
            share = self.options.share
            is_vetted_canary = self.to == CANARY and state.holders.is_vetted  # if not, its gates are still to come
            if self.to != CANARY or (is_vetted_canary and share == state.holders.share):
                return MoveResult(self.version, self.to, self.version.semver, [], [], None, share)
            if is_vetted_canary and share is not None and share < state.holders.share:
                return self.write(state, GateResult())  # as a roll-back, it must not wait for gates
        result = evaluate(self.store, state, self.version, cache)
        if result.shortfalls and not (self.options.force or self.options.dry_run):
            what = f"{self.version.name} {self.version.semver} does not go to {self.to}"
            raise RefusedError(what, tuple(result.shortfalls))
        if self.options.bake and any(text.startswith(ALLOWED) for text in result.evidence):
            raise RefusedError(
                f"{self.version.semver} can't bake: its contract is another one, and a roll-back would not fit the "
                "cars' code; promote it without --bake"
            )
        return self.write(state, result)

    def _check_bake(self, state: RegistryState) -> None:
        """Raises RefusedError when a bake is asked for that could not end by a roll-back."""
        held, semver = state.holder(self.to), self.version.semver
        if self.options.bake and held == semver:
            raise RefusedError(f"{semver} holds {self.to} already: a bake begins with the move to it")
        if self.options.bake and held is None:
            raise RefusedError(f"nothing holds {self.to}: {semver} can't bake without a version to roll back to")

    def write(self, state: RegistryState, result: GateResult) -> MoveResult:
        """Journals the move and carries it out; in a dry run, only says what it would be."""
        displaced = state.holder(self.to)
        findings, share = [str(finding) for finding in result.findings], self.options.share
        if self.options.dry_run:
            return MoveResult(self.version, self.to, displaced, result.shortfalls, findings, None, share)
        overruled = tuple(f"{OVERRULED}{shortfall}"[:MAX_TEXT] for shortfall in result.shortfalls)
        evidence, semver = result.evidence + overruled + self.options.evidence, self.version.semver
        move = Move(self.kind, semver, self.to, displaced, whoami(), time.time(), self.options.reason, evidence)
        bake, unset = self.options.bake or msgspec.UNSET, msgspec.UNSET
        move = msgspec.structs.replace(move, bake=bake, share=unset if share is None else share)
        progress(f"moving {self.to}")
        entry = commit(self.store, state, move, self.check, self.options.expect)
        now = self.store.resolve(Reference(self.version.name, "number", self.version.number))
        return MoveResult(now, self.to, displaced, result.shortfalls, findings, entry.number, share)
