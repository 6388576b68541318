"""The moves of a registered version: promote, roll back, archive. Each is judged, journalled, then carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.cli import progress
from carla_mlflow.errors import RefusedError
from registry.gates.gates import Finding, shortfalls
from registry.moves.sync import Standing, commit, look, whoami
from registry.rules.journal import MOST_TEXT, OVERRULED, Kind, Move
from registry.rules.lifecycle import ARCHIVED, check_archive, check_expected, check_promotion, check_protected
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.store.store import Store


@dataclass(frozen=True)
class Judgement:
    """What the gates found.

    Attributes:
        findings: of every gate that was asked.
        evidence: what it rests on: MLflow runs, and the margins.
    """

    findings: Sequence[Finding] = ()
    evidence: tuple[str, ...] = ()

    @property
    def shortfalls(self) -> list[str]:
        """In words; none when all is well."""
        return list(shortfalls(self.findings))


Judge = Callable[[Store, Standing, PolicyVersion, Path], Judgement]
"""Registry, its standing, the candidate, the cache → what the gates found."""


@dataclass(frozen=True)
class Asked:
    """How a move is asked for.

    Attributes:
        expect: the semantic version that must hold the stage now, `none` for nobody; None does not look.
        reason: in words, for the journal.
        force: moves in spite of shortfalls; needs a reason.
        dry_run: judges, and writes nothing.
    """

    expect: str | None = None
    reason: str = ""
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.force and not self.reason:
            raise RefusedError('--force needs --reason "…": the journal keeps it')
        if len(self.reason) > MOST_TEXT:
            raise RefusedError(f"--reason: {len(self.reason):,} characters; at most {MOST_TEXT:,}")


@dataclass(frozen=True)
class Moved:
    """A move that was made, or would be.

    Attributes:
        version: as it stands now.
        to: the stage.
        displaced: the semantic version that held it before.
        shortfalls: what was overruled, or, in a dry run, what stands in the way.
        findings: what each gate found, in words.
        entry: the journal's number for it; None when nothing was written.
    """

    version: PolicyVersion
    to: str
    displaced: str | None
    shortfalls: list[str]
    findings: list[str]
    entry: int | None


def promote(store: Store, reference: Reference, to: str, cache: Path, asked: Asked, judge: Judge) -> Moved:
    """Gives `staging` or `production` to a version.

    Raises:
        RefusedError: the move is not allowed, `expect` does not hold, or a gate says no; lists every shortfall.
    """
    standing = look(store, reference.name, write=not asked.dry_run)
    return _Moving(store, store.resolve(reference), "promote", to, asked).judged(standing, cache, judge)


def rollback(store: Store, name: str, stage: str, cache: Path, asked: Asked, judge: Judge) -> Moved:
    """Gives a stage back to whoever held it before; once more, to whoever held it before that.

    Raises:
        RefusedError: nobody held it before, or a gate says no; lists every shortfall.
    """
    standing = look(store, name, write=not asked.dry_run)
    able = {version.semver for version in standing.versions} - standing.holders.archived - {standing.holder(stage)}
    earlier = [version for version in standing.holders.before.get(stage, ()) if version in able]
    if not earlier:
        raise RefusedError(f"{name}: no version held {stage} before that could take it again")
    moving = _Moving(store, standing.version(earlier[-1]), "rollback", stage, asked)
    return moving.judged(standing, cache, judge)


def archive(store: Store, reference: Reference, asked: Asked) -> Moved:
    """Takes a version out of use: no range means it any more.

    Raises:
        RefusedError: it is in production, or archived already.
    """
    standing = look(store, reference.name, write=not asked.dry_run)
    moving = _Moving(store, store.resolve(reference), "archive", ARCHIVED, asked)
    moving.check(standing)
    return moving.written(standing, Judgement())


@dataclass(frozen=True)
class _Moving:
    """A move that is being made."""

    store: Store
    version: PolicyVersion
    kind: Kind
    to: str
    asked: Asked

    def check(self, standing: Standing) -> None:
        """Raises RefusedError unless the move is allowed as things stand; asked again before it is entered."""
        stage = standing.stage(self.version.semver)
        if self.to == ARCHIVED:
            check_archive(self.version.semver, stage, self.asked.force)
            moved = [alias for alias, holder in standing.holders.aliases.items() if holder == self.version.semver]
        else:
            standing.version(self.version.semver)
            check_promotion(self.version.semver, stage, self.to)
            moved = [self.to]
        tags = self.store.model_tags(self.version.name) if moved else {}
        for alias in moved:
            check_protected(tags, alias, whoami())

    def judged(self, standing: Standing, cache: Path, judge: Judge) -> Moved:
        """Holds the version against the gates first."""
        check_expected(self.asked.expect, standing.holder(self.to), self.to)
        self.check(standing)
        if standing.holder(self.to) == self.version.semver:
            return Moved(self.version, self.to, self.version.semver, [], [], None)
        judgement = judge(self.store, standing, self.version, cache)
        if judgement.shortfalls and not (self.asked.force or self.asked.dry_run):
            what = f"{self.version.name} {self.version.semver} does not go to {self.to}"
            raise RefusedError(what, tuple(judgement.shortfalls))
        return self.written(standing, judgement)

    def written(self, standing: Standing, judgement: Judgement) -> Moved:
        """Enters the move and carries it out, or says what it would be."""
        displaced = standing.holder(self.to)
        findings = [str(finding) for finding in judgement.findings]
        if self.asked.dry_run:
            return Moved(self.version, self.to, displaced, judgement.shortfalls, findings, None)
        overruled = tuple(f"{OVERRULED}{shortfall}"[:MOST_TEXT] for shortfall in judgement.shortfalls)
        evidence, semver = judgement.evidence + overruled, self.version.semver
        move = Move(self.kind, semver, self.to, displaced, whoami(), time.time(), self.asked.reason, evidence)
        progress(f"moving {self.to}")
        entry = commit(self.store, standing, move, self.check, self.asked.expect)
        now = self.store.resolve(Reference(self.version.name, "number", self.version.number))
        return Moved(now, self.to, displaced, judgement.shortfalls, findings, entry.number)
