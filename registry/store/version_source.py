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
