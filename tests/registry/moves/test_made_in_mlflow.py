"""Versions that MLflow's own button or function made: told, made ours, and then like any other."""

from __future__ import annotations

import shlex
from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, cache_folder, changed, enter, example, registered, to_production
from tests_support import registry_here

from carla_mlflow.artifact.artifact import open_artifact
from carla_mlflow.errors import NotFoundError, NotOursError
from carla_mlflow.flavor.model import log_policy
from carla_mlflow.flavor.runs import logging_run
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.rules.reference import parse_reference
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


def by_hand(name: str, source: str | None = None) -> str:
    """Registers as MLflow's button does; MLflow's number."""
    artifact = open_artifact(Path(source)) if source else example()
    with logging_run():
        uri = log_policy(artifact)
    return str(mlflow.register_model(uri, name).version)


def test_a_version_registered_in_mlflows_own_way_is_told_and_one_command_makes_it_ours(store: Store):
    by_hand("byhand")
    mlflow.MlflowClient().set_registered_model_alias("byhand", "production", "1")
    for reference in ("byhand@production", "byhand/1", "byhand@^0.1", "byhand@0.1.0", "byhand/Production"):
        done = registry_here("resolve", reference) if reference == "byhand/1" else None
        with pytest.raises(NotFoundError, match=r"without a semantic version and digest.*register models:/byhand/1$"):
            store.resolve(parse_reference(reference))
        assert done is None or (done.code, done.err.count("register models:/byhand/1")) == (1, 1)
    assert "carla-registry register models:/byhand/1" in registry_here("list").out
    done = registry_here("register", "models:/byhand/1")
    assert (done.code, done.out.startswith("registered byhand 0.1.0")) == (0, True), done.err
    assert store.resolve(parse_reference("byhand@production")).digest == example().digest
    assert len(mlflow.MlflowClient().search_model_versions("name = 'byhand'")) == 1  # where it stands
    assert sync(store, "byhand").holder("production") == "0.1.0"
    assert register(store, "models:/byhand/1", cache_folder())[1] is False


def test_the_same_artifact_registered_again_by_hand_is_the_same_version(store: Store, tmp_path: Path):
    enter(store, changed(tmp_path, "0.1.0"))
    source = changed(tmp_path, "0.1.0")
    number = by_hand(NAME, source)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", number)
    assert sync(store, NAME).holder("production") == f"MLflow version {number}"
    version, new = register(store, f"models:/{NAME}/{number}", cache_folder())
    assert (version.number, new) == ("1", False)
    assert sync(store, NAME).holder("production") == "0.1.0"
    assert store.resolve(parse_reference(f"{NAME}@production")).semver == "0.1.0"
    assert store.resolve(parse_reference(f"{NAME}@0.1.0")).stage == "production"


def test_the_command_that_is_told_is_for_the_version_that_was_asked_for(store: Store, tmp_path: Path):
    client = mlflow.MlflowClient()
    client.create_registered_model("byhand")
    for _ in range(3):
        client.create_model_version("byhand", str(tmp_path))
    client.set_registered_model_alias("byhand", "production", "1")
    for reference, number in {"byhand@production": 1, "byhand/2": 2}.items():
        with pytest.raises(NotOursError, match=f"^{reference}: MLflow has version {number} of .*/byhand/{number}$"):
            store.resolve(parse_reference(reference))
    with pytest.raises(NotFoundError, match=r"byhand@staging: there is no such alias.*versions 1, 2, 3 of byhand"):
        store.resolve(parse_reference("byhand@staging"))


def test_what_holds_no_policy_is_not_made_one(store: Store, tmp_path: Path):
    mlflow.MlflowClient().create_registered_model("other")
    mlflow.MlflowClient().create_model_version("other", str(tmp_path))
    with pytest.raises(NotFoundError, match="models:/other/1: holds no policy artifact"):
        register(store, "models:/other/1", cache_folder())


def test_a_model_whose_name_no_reference_can_mean_is_told_with_the_command_that_gives_its_versions_one(
    store: Store, tmp_path: Path
):
    (version,) = registered(store, tmp_path, "0.1.0")
    mlflow.MlflowClient().copy_model_version(version.uri, "my cars")
    assert by_hand("my cars", changed(tmp_path, "0.2.0")) == "2"
    *_, lacking, nameless = registry_here("list").out.splitlines()
    assert lacking.endswith("carla-registry register 'models:/my cars/2' --name NAME")
    assert nameless.endswith("carla-registry register 'models:/my cars/1' --name NAME")
    for told in (nameless, lacking):
        done = registry_here(*shlex.split(told.rpartition("carla-registry")[2].replace("NAME", "cars")))
        assert done.code == 0, done.err
    assert store.resolve(parse_reference("cars@0.1.0")).digest == version.digest
    assert store.resolve(parse_reference("cars@0.2.0")).semver == "0.2.0"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What MLflow is asked to search, as it is asked."""
    filters: list[str] = []
    search = mlflow.MlflowClient.search_model_versions

    def noting(self: mlflow.MlflowClient, filter_string: str, **options: object) -> object:
        filters.append(filter_string)
        return search(self, filter_string, **options)

    monkeypatch.setattr(mlflow.MlflowClient, "search_model_versions", noting)
    return filters


def test_a_promotion_reads_all_versions_and_all_of_the_journal_once(store: Store, tmp_path: Path, asked: list[str]):
    registered(store, tmp_path, "0.1.0")
    asked.clear()
    to_production(store, "0.1.0")
    assert [text for text in asked if "AND" not in text] == [f"name = '{NAME}.journal'", f"name = '{NAME}'"]


def test_a_range_that_is_asked_again_reads_versions_only_where_something_has_changed(
    store: Store, tmp_path: Path, asked: list[str]
):
    registered(store, tmp_path, "0.1.0", "0.2.0")
    asked.clear()
    wanted = parse_reference(f"{NAME}@0.x")
    assert [store.resolve(wanted).semver for _ in range(3)] == ["0.2.0"] * 3
    assert asked == [f"name = '{NAME}'"]
    for reference in (f"{NAME}@0.1.0", f"{NAME}/1"):
        asked.clear()
        store.resolve(parse_reference(reference))
        assert asked == [f"name = '{NAME}' AND tags.semver = '0.1.0'"]
    registered(Store(), tmp_path, "0.3.0")
    assert store.resolve(wanted).semver == "0.3.0"
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "1")
    assert store.resolve(wanted).semver == "0.3.0"
    mlflow.MlflowClient().transition_model_version_stage(NAME, "3", "Archived")
    assert store.resolve(wanted).semver == "0.2.0"
