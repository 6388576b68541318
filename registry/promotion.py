"""The moves: register and promote. Each verifies that the policy is whole and acts here as it was trained to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlflow

from carla_mlflow.artifact import Artifact, open_artifact
from carla_mlflow.device import select_device
from carla_mlflow.engine import Engine
from carla_mlflow.errors import NotFoundError, RefusedError
from carla_mlflow.mlflow_model import expand_latest, fetch_policy, log_policy
from registry.cache import fetch_to_cache
from registry.lifecycle import CANDIDATE, check_expected, check_promotion
from registry.reference import Reference, check_name
from registry.store import PolicyVersion, Store

EXPERIMENT = "carla-mlflow"


def register(store: Store, source: str, name: str | None = None) -> tuple[PolicyVersion, bool]:
    """Registers an artifact under its card's version.

    Args:
        store: the registry.
        source: an artifact folder, which is logged to MLflow first, or `runs:/<run_id>/policy`.
        name: of the policy; the card's when None.

    Returns:
        The version, and whether it is new: the same artifact twice is the same version.

    Raises:
        RefusedError: another artifact has that version already.
        ArtifactError: it is damaged, or does not act here as the trained policy did.
    """
    with tempfile.TemporaryDirectory() as scratch:
        is_uri = source.startswith(("runs:/", "models:/"))
        artifact = open_artifact(fetch_policy(source, Path(scratch) / "policy") if is_uri else Path(source))
    Engine(artifact, select_device("cpu"))  # parity: raises when it acts differently here
    name = check_name(name or artifact.card.name)
    known = _versions(store, name)
    for version in known:
        if version.digest == artifact.digest:
            return version, False
        if version.semver == artifact.card.version:
            raise RefusedError(
                f"{name} {version.semver} is taken by another artifact ({version.digest[:19]}…); "
                "export with another --version"
            )
    uri = expand_latest(source) if is_uri else _log(artifact)
    card = artifact.card
    tags = {
        "semver": card.version,
        "digest": artifact.digest,
        "content": card.content,
        "contract": card.contract,
        "stage": CANDIDATE,
    }
    return store.create_version(name, uri, tags), True


def promote(store: Store, reference: Reference, to: str, cache: Path, expect: str | None = None) -> PolicyVersion:
    """Gives `staging` or `production` to a version, after verifying it on this machine.

    Args:
        store: the registry.
        reference: the version.
        to: `staging` or `production`.
        cache: where artifacts are fetched to.
        expect: the semantic version that must hold `to` now, `none` for nobody; None does not look.

    Returns:
        The version as it stands afterwards.

    Raises:
        RefusedError: the move is not allowed, or `expect` does not hold.
        ArtifactError: it is not what was registered, or does not act here as the trained policy did.
    """
    version = store.resolve(reference)
    check_promotion(version.stage, to)
    displaced = store.holder(version.name, to)
    check_expected(expect, displaced.semver if displaced else None, to)
    Engine(fetch_to_cache(store, version, cache), select_device("cpu"))
    store.move_alias(version, to, displaced)
    return store.resolve(Reference(version.name, "number", version.number))


def _versions(store: Store, name: str) -> list[PolicyVersion]:
    try:
        return store.versions(name)
    except NotFoundError:
        return []


def _log(artifact: Artifact) -> str:
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=f"register {artifact.card.name} {artifact.card.version}"):
        return log_policy(artifact)
