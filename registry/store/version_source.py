"""Where versions come from: MLflow's registry (`store.Store`), or a folder of artifacts (`artifact_folder`)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference


class VersionSource(Protocol):
    """Says which version a reference means now, and fetches it."""

    def resolve(self, reference: Reference) -> PolicyVersion: ...

    def fetch(self, version: PolicyVersion, folder: Path) -> Path: ...

    def goes_back(self, reference: Reference, semver: str) -> bool:
        """Whether the reference means this version again: by a roll-back, not by a promotion."""

    def is_live(self, name: str, semver: str, digest: str) -> bool:
        """Whether there is a version with this digest that may still answer: not archived, removed or taken back."""
