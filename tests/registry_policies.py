"""Versions of the example policy for tests of the registry: other cards, other weights, other contracts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from tests_support import EXAMPLE

from carla_mlflow import Artifact, open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from registry.moves.judge import promotion_gates, rollback_gates
from registry.moves.promotion import MoveOptions, MoveResult, promote, rollback
from registry.moves.registration import register
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import parse_reference
from registry.store.cache import default_cache
from registry.store.store import Store

NAME = "racetrack-policy"


@cache
def example() -> Artifact:
    return open_artifact(EXAMPLE)


def changed(folder: Path, version: str, **card: Any) -> str:
    """The example again under another version, with other sections of its card."""
    new = msgspec.structs.replace(example().card, version=version, **card)
    files = {name: example().files[name] for name in new.files}
    place = folder / f"{version}-{len(list(folder.glob('*')))}"
    return str(write_artifact(place, seal(new, files)).path)


def at_another_rate(rate_hz: float) -> Any:
    """An action section that a car's code has to follow: another contract."""
    return msgspec.structs.replace(example().card.action, rate_hz=rate_hz)


def cache_folder() -> Path:
    """Where the commands keep what they fetch when nobody says where."""
    return default_cache()


def enter(store: Store, source: str, name: str | None = None) -> tuple[PolicyVersion, bool]:
    """Registers under the card's own version."""
    return register(store, source, cache_folder(), name)


def registered(store: Store, folder: Path, *versions: str) -> list[PolicyVersion]:
    return [register(store, changed(folder, version, description=version), cache_folder())[0] for version in versions]


def to_production(store: Store, version: str, name: str = NAME, **asked: Any) -> MoveResult:
    return to_stage(store, f"{name}@{version}", "production", **asked)


def to_stage(store: Store, reference: str, stage: str, **asked: Any) -> MoveResult:
    # By the gates of staging: what production asks beyond has tests of its own, which drive.
    return promote(
        store, parse_reference(reference), stage, cache_folder(), MoveOptions(**asked), promotion_gates("staging")
    )


def roll_back(store: Store, allow_breaking: bool = False, name: str = NAME, **asked: Any) -> MoveResult:
    return rollback(store, name, "production", cache_folder(), MoveOptions(**asked), rollback_gates(allow_breaking))
