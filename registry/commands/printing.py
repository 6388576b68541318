"""How carla-registry says a version in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.escaping import escaped

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion


def line(version: PolicyVersion) -> str:
    parts = [f"{version.name} {version.semver}", version.stage, version.digest, f"({version.uri})"]
    return escaped("  ".join(part for part in parts if part))
