"""One version of a policy, as the registry holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry.rules.lifecycle import ARCHIVED, CANDIDATE, LEGACY, stage_of


@dataclass(frozen=True)
class PolicyVersion:
    """One version of a policy, as the registry holds it.

    Attributes:
        number: MLflow's version number.
        semver: semantic version; unique per policy.
        digest: the artifact's, pinned at registration.
        stage: candidate, staging, production or archived.
        aliases: every MLflow alias that it holds.
        run_id: the run that logged it.
        created: seconds since 1970.
        weights: the hash of its weights.
        identity: identifies its artifact apart from the version; see `identity_of`.
        legacy_stage: MLflow's own stage, which its older UI can move.
        shown: the tag `stage`, which people see.
    """

    name: str
    number: str
    semver: str
    digest: str
    contract: str
    stage: str
    aliases: tuple[str, ...]
    run_id: str
    created: float
    weights: str = ""
    identity: str = ""
    legacy_stage: str = "None"
    shown: str = ""

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"


def policy_version(version: Any, aliases: Sequence[str] = ()) -> PolicyVersion:
    """Makes a PolicyVersion; the aliases are given apart, as a ModelVersion's own list of them may be empty."""
    number, tags = str(version.version), version.tags
    held = tuple(sorted(aliases))
    legacy_stage = version.current_stage or LEGACY[CANDIDATE]
    return PolicyVersion(
        name=version.name,
        number=number,
        semver=tags["semver"],
        digest=tags.get("digest", ""),
        contract=tags.get("contract", ""),
        # Archived by the legacy stage or by the tag: without the journal, either is enough, as a click can edit a tag.
        stage=stage_of(held, ARCHIVED if legacy_stage == LEGACY[ARCHIVED] else tags.get("stage")),
        aliases=held,
        run_id=version.run_id or "",
        created=version.creation_timestamp / 1e3,
        weights=tags.get("weights", ""),
        identity=tags.get("identity", ""),
        legacy_stage=legacy_stage,
        shown=tags.get("stage", ""),
    )
