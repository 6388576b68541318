"""Collects what the gates need: the candidate measured on this machine, its evidence, and the champion's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.cli import progress
from carla_mlflow.errors import ArtifactError, NotFoundError
from carla_mlflow.preprocessing.trust_types import operators_types
from registry.checks.latency import measure_here
from registry.checks.verify import verify_apart
from registry.gates.candidate import Candidate, Champion
from registry.gates.episodes import Evidence
from registry.gates.gates import evaluate_gates
from registry.gates.margins import read_margins
from registry.gates.shadow import read_shadow_bar
from registry.moves.state import RegistryState
from registry.moves.terms import EvaluateGates, GateResult
from registry.rules.changes import contract_changes
from registry.rules.journal import ALLOWED, MARGINS, MAX_TEXT
from registry.rules.lifecycle import CANARY, PRODUCTION
from registry.rules.policy_version import PolicyVersion
from registry.store.cache import fetch_to_cache
from registry.store.evidence import find_evidence
from registry.store.shadow_evidence import find_shadow_evidence
from registry.store.store import Store

FOR_CARS = frozenset({"evidence", "driving", "shadow"})
"""Gates that only production and canary have: a version in staging is driven there to get its evidence, or runs as a
shadow."""


FOR_ROLLBACK = frozenset({"integrity", "contract"})
"""A version that drove before needs no new evidence; it must be unchanged, and fit the cars' code."""

FindEvidence = Callable[[str, Evidence | None], Evidence | None]
"""Digest, and evidence whose conditions are preferred → what `find_evidence` returns."""


def promotion_gates(to: str, allow_breaking: bool = False) -> EvaluateGates:
    """The gates of a promotion.

    Args:
        to: staging, production or canary.
        allow_breaking: whether the contract may differ from that of the version in production.
    """
    for_cars = to in {PRODUCTION, CANARY}

    def evaluate(store: Store, state: RegistryState, version: PolicyVersion, cache: Path) -> GateResult:
        progress(f"integrity, parity and latency of {version.name} {version.semver} on this machine")
        measured = measure_here(lambda: fetch_to_cache(store, version, cache), operators_types())
        artifact = measured.artifact
        card = artifact.card if artifact and not measured.problem else None
        find: FindEvidence = find_evidence if for_cars else _no_evidence
        evidence = find(version.digest, None)
        tags = store.model_tags(version.name)
        margins, bar = read_margins(tags), read_shadow_bar(tags)
        champion = _champion(store, state, artifact, lambda digest: find(digest, evidence), cache)
        asked = bar is not None and for_cars and champion is not None
        shadow = find_shadow_evidence(version.digest, champion.digest) if asked and champion else None
        name, decision_ms = _reference(version), measured.decision_ms
        candidate = Candidate(name, measured.problem, card, decision_ms, evidence, margins, bar, shadow)
        findings = evaluate_gates(candidate, champion, allow_breaking)
        counted = [finding for finding in findings if for_cars or finding.gate not in FOR_CARS]
        bars = ", ".join(str(each) for each in (margins, bar) if each is not None)
        margins_used = (f"{MARGINS}{bars}",) if for_cars else ()
        links = _links(evidence, champion) + (shadow.links[:1] if shadow else ())
        return GateResult(counted, links + margins_used + _allowed(champion, allow_breaking))

    return evaluate


def rollback_gates(allow_breaking: bool = False) -> EvaluateGates:
    """The gates of a rollback.

    Args:
        allow_breaking: whether the contract may differ from that of the version in production.
    """

    def evaluate(store: Store, state: RegistryState, version: PolicyVersion, cache: Path) -> GateResult:
        progress(f"integrity and parity of {version.name} {version.semver} on this machine")
        artifact, problem = None, None
        try:
            artifact = fetch_to_cache(store, version, cache)
            list(verify_apart(artifact.path, artifact.digest, trusted=operators_types()))
        except ArtifactError as error:
            problem = str(error)
        card = artifact.card if artifact and problem is None else None
        candidate = Candidate(_reference(version), problem, card, None, None)
        champion = _champion(store, state, artifact, lambda digest: None, cache)
        findings = evaluate_gates(candidate, champion, allow_breaking)
        counted = [finding for finding in findings if finding.gate in FOR_ROLLBACK]
        return GateResult(counted, _allowed(champion, allow_breaking))

    return evaluate


def _no_evidence(_: str, __: Evidence | None) -> None:
    return None


def _champion(
    store: Store,
    state: RegistryState,
    candidate: Artifact | None,
    evidence_of: Callable[[str], Evidence | None],
    cache: Path,
) -> Champion | None:
    version, changes = state.champion, None
    if version is None:
        return None
    if candidate is not None:
        try:
            old = fetch_to_cache(store, version, cache)
            changes = [str(change) for change in contract_changes(old.card, candidate.card)]
        except (ArtifactError, NotFoundError):
            changes = [] if version.contract == candidate.card.contract else None
    return Champion(_reference(version), changes, evidence_of(version.digest), version.digest)


def _reference(version: PolicyVersion) -> str:
    return f"{version.name}@{version.semver}"


def _links(evidence: Evidence | None, champion: Champion | None) -> tuple[str, ...]:
    theirs = champion.evidence if champion else None
    return tuple(each.source for each in (evidence, theirs) if each is not None)


def _allowed(champion: Champion | None, allow_breaking: bool) -> tuple[str, ...]:
    """The contract changes that `--allow-breaking` lets pass, for the journal."""
    changes = (champion and champion.contract_changes) or []
    return tuple(f"{ALLOWED}contract: {change}"[:MAX_TEXT] for change in changes) if allow_breaking else ()
