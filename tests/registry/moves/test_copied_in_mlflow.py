"""Copies that MLflow makes of our versions in another registered model ("Promote model"): like any other version."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, cache_folder, changed, enter, registered, roll_back, to_production
from tests_support import registry_here

from carla_mlflow.errors import NotFoundError
from registry.moves.promotion import archive
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import MoveOptions
from registry.rules.chain import problems
from registry.rules.reference import parse_reference
from registry.store.cache import fetch_to_cache
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


def test_a_version_copied_into_another_model_is_journalled_and_served_by_its_digest(store: Store, tmp_path: Path):
    first, second = registered(store, tmp_path, "0.1.0", "0.2.0")
    client = mlflow.MlflowClient()
    for version in (first, second):
        client.copy_model_version(version.uri, "cars")
    standing = sync(store, "cars")
    assert [(e.move.kind, e.move.version) for e in standing.entries] == [("register", "0.1.0"), ("register", "0.2.0")]
    assert "without an entry in the journal" in registry_here("history", "cars").out
    assert problems(standing.entries) == []
    client.set_registered_model_alias("cars", "production", "1")
    resolved = store.resolve(parse_reference("cars@production"))
    assert (resolved.semver, resolved.digest) == ("0.1.0", first.digest)
    assert fetch_to_cache(store, resolved, cache_folder()).digest == first.digest
    to_production(store, "0.2.0", name="cars")
    assert roll_back(store, name="cars").version.semver == "0.1.0"
    assert len(sync(store, NAME).entries) == 2  # where they were copied from nothing has moved


def test_a_copy_that_was_moved_before_anyone_looked_is_told_as_registered_first(store: Store, tmp_path: Path):
    (version,) = registered(store, tmp_path, "0.1.0")
    mlflow.MlflowClient().copy_model_version(version.uri, "cars")
    mlflow.MlflowClient().set_registered_model_alias("cars", "production", "1")
    moves = [entry.move for entry in sync(store, "cars").entries]
    assert [(move.kind, move.to) for move in moves] == [("register", "candidate"), ("seen", "production")]


def test_a_copy_of_an_archived_version_is_archived_whoever_looks_until_somebody_gives_it_an_alias(
    store: Store, tmp_path: Path
):
    for version in registered(store, tmp_path, "0.1.0", "0.2.0"):
        archive(store, parse_reference(f"{NAME}@{version.semver}"), MoveOptions())
        mlflow.MlflowClient().copy_model_version(version.uri, "cars")
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"0\.1\.0 \(archived\), 0\.2\.0 \(archived\)"):
            store.resolve(parse_reference("cars@0.x"))
        standing = sync(store, "cars")
    assert [entry.move.to for entry in standing.entries] == ["candidate", "candidate", "archived", "archived"]
    assert problems(standing.entries) == []
    mlflow.MlflowClient().set_registered_model_alias("cars", "production", "1")
    assert sync(store, "cars").stage("0.1.0") == "production"
    assert store.resolve(parse_reference("cars@0.x")).semver == "0.1.0"


def test_a_copy_under_a_version_that_is_another_artifact_drives_nowhere(store: Store, tmp_path: Path):
    enter(store, changed(tmp_path, "0.1.0", description="one"), "cars")
    other, _ = enter(store, changed(tmp_path, "0.1.0", description="other"))
    client = mlflow.MlflowClient()
    client.copy_model_version(other.uri, "cars")
    client.set_registered_model_alias("cars", "production", "2")
    with pytest.raises(NotFoundError, match="version 2 of cars without a semantic version and digest of its own"):
        store.resolve(parse_reference("cars@production"))
    assert store.resolve(parse_reference("cars@0.1.0")).number == "1"
    assert sync(store, "cars").holder("production") == "MLflow version 2"
    version, new = register(store, "models:/cars/2", cache_folder(), bump="auto")
    assert (version.semver, new) == ("0.1.1", True)
