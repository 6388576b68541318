"""The moves of a registered version: promote, roll back, archive. Each is judged, journalled, then carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.cli import progress
from carla_mlflow.engine import Engine
from carla_mlflow.errors import ArtifactError, RefusedError
from carla_mlflow.preprocessing import operators_types
from registry.cache import fetch_to_cache
from registry.gates import Finding, shortfalls
from registry.journal import MOST_TEXT, OVERRULED, Kind, Move
from registry.lifecycle import ARCHIVED, PRODUCTION, check_archive, check_expected, check_promotion, check_protected
from registry.moves import Standing, commit, look, whoami
from registry.policy_version import PolicyVersion
from registry.reference import Reference
from registry.store import Store


@dataclass(frozen=True)
class Judgement:
    """What the gates found.

    Attributes:
        findings: of every gate that was asked.
        evidence: MLflow runs that it rests on.
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


def whole_and_alike(store: Store, _: Standing, version: PolicyVersion, cache: Path) -> Judgement:
    """The gates of a roll-back: the artifact is what was registered, and acts here as the trained policy did."""
    progress(f"integrity and parity of {version.name} {version.semver} on this machine")
    try:
        Engine(fetch_to_cache(store, version, cache), "cpu", trusted=operators_types())
    except ArtifactError as error:
        return Judgement([Finding("integrity", False, str(error))])
    return Judgement([Finding("integrity", True, "whole, and acts here as the trained policy did")])


def promote(store: Store, reference: Reference, to: str, cache: Path, asked: Asked, judge: Judge) -> Moved:
    """Gives `staging` or `production` to a version.

    Raises:
        RefusedError: the move is not allowed, `expect` does not hold, or a gate says no; lists every shortfall.
    """
    standing = look(store, reference.name, write=not asked.dry_run)
    version = store.resolve(reference)
    check_promotion(version.stage, to)
    return _move(store, standing, version, "promote", to, cache, asked, judge)


def rollback(store: Store, name: str, stage: str, cache: Path, asked: Asked) -> Moved:
    """Gives a stage back to whoever held it before; once more, to whoever held it before that.

    Raises:
        RefusedError: nobody held it before, or the gates for integrity and parity say no.
    """
    standing = look(store, name, write=not asked.dry_run)
    able = {version.semver for version in standing.versions} - standing.holders.archived
    earlier = [version for version in standing.holders.before.get(stage, ()) if version in able]
    if not earlier:
        raise RefusedError(f"{name}: the journal knows nobody who held {stage} before, and could take it again")
    return _move(store, standing, standing.version(earlier[-1]), "rollback", stage, cache, asked, whole_and_alike)


def archive(store: Store, reference: Reference, asked: Asked) -> Moved:
    """Takes a version out of use: no range means it any more.

    Raises:
        RefusedError: it is in production, or archived already.
    """
    standing = look(store, reference.name, write=not asked.dry_run)
    version = store.resolve(reference)
    check_archive(version.stage, asked.force)
    if version.stage == PRODUCTION:
        check_protected(store.model_tags(version.name), PRODUCTION, whoami())
    return _write(store, standing, version, "archive", ARCHIVED, asked, Judgement())


def _move(
    store: Store,
    standing: Standing,
    version: PolicyVersion,
    kind: Kind,
    to: str,
    cache: Path,
    asked: Asked,
    judge: Judge,
) -> Moved:
    check_expected(asked.expect, standing.holder(to), to)
    check_protected(store.model_tags(version.name), to, whoami())
    if standing.holder(to) == version.semver:
        return Moved(version, to, version.semver, [], [], None)
    judgement = judge(store, standing, version, cache)
    if judgement.shortfalls and not (asked.force or asked.dry_run):
        raise RefusedError(f"{version.name} {version.semver} does not go to {to}: " + "; ".join(judgement.shortfalls))
    return _write(store, standing, version, kind, to, asked, judgement)


def _write(
    store: Store, standing: Standing, version: PolicyVersion, kind: Kind, to: str, asked: Asked, judgement: Judgement
) -> Moved:
    displaced = standing.holder(to)
    findings = [str(finding) for finding in judgement.findings]
    if asked.dry_run:
        return Moved(version, to, displaced, judgement.shortfalls, findings, None)
    overruled = tuple(f"{OVERRULED}{shortfall}"[:MOST_TEXT] for shortfall in judgement.shortfalls)
    move = Move(
        kind, version.semver, to, displaced, whoami(), time.time(), asked.reason, judgement.evidence + overruled
    )
    progress(f"moving {to}")
    entry = commit(store, standing, move, asked.expect)
    now = store.resolve(Reference(version.name, "number", version.number))
    return Moved(now, to, displaced, judgement.shortfalls, findings, entry.number)
