"""Moves that others overtake: while the gates run, between the journal and the alias, and in MLflow's UI."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from registry_policies import (
    NAME,
    at_another_rate,
    cache_folder,
    changed,
    registered,
    roll_back,
    to_production,
    to_stage,
)

from carla_mlflow.errors import RefusedError
from carla_mlflow.flavor.runs import STEP_TAG
from registry.moves.append import append
from registry.moves.promotion import archive, promote
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import GateResult, MoveOptions
from registry.rules.journal import Move
from registry.rules.lifecycle import PROTECTED
from registry.rules.reference import parse_reference
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    """Two versions, the first of them in production."""
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    return store


def production(store: Store) -> str | None:
    holder = sync(store, NAME).holder("production")
    assert store.holders(NAME).get("production") == holder
    return holder


def moves(store: Store) -> list[tuple[str, str, str]]:
    found = (entry.move for entry in sync(store, NAME).entries)
    return [(move.kind, move.version, move.to) for move in found if move.kind != "register"][1:]


class Slow(Store):
    """A registry's client that is stopped before its first write of an alias, while others do something."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], object] | None = meanwhile

    def set_alias(self, *arguments) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        super().set_alias(*arguments)


def test_what_is_archived_while_it_is_judged_does_not_drive(store: Store):
    def evaluate(*_) -> GateResult:
        archive(Store(), parse_reference(f"{NAME}@0.2.0"), MoveOptions())
        return GateResult()

    with pytest.raises(RefusedError, match=r"0\.2\.0 is archived"):
        promote(store, parse_reference(f"{NAME}@0.2.0"), "production", cache_folder(), MoveOptions(), evaluate)
    assert production(store) == "0.1.0"
    assert moves(store) == [("archive", "0.2.0", "archived")]


def test_what_is_promoted_before_it_is_archived_keeps_driving(store: Store, monkeypatch):
    reads = Store.model_tags

    def promoted_meanwhile(self: Store, name: str) -> dict[str, str]:
        monkeypatch.setattr(Store, "model_tags", reads)
        to_production(Store(), "0.2.0")
        return reads(self, name)

    to_stage(store, f"{NAME}@0.2.0", "staging")
    monkeypatch.setattr(Store, "model_tags", promoted_meanwhile)
    with pytest.raises(RefusedError, match=r"0\.2\.0 is in production"):
        archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    assert production(store) == "0.2.0"


def test_who_writes_the_alias_late_takes_it_back(store: Store, tmp_path: Path):
    registered(store, tmp_path, "0.3.0")
    to_production(Slow(lambda: to_production(Store(), "0.3.0")), "0.2.0")
    assert production(store) == "0.3.0"
    assert moves(store) == [("promote", "0.2.0", "production"), ("promote", "0.3.0", "production")]
    assert {v.semver: v.stage for v in store.versions(NAME)}["0.2.0"] == "candidate"


def test_a_move_in_the_ui_after_an_entry_that_nobody_carried_out_stays(store: Store, tmp_path: Path):
    registered(store, tmp_path, "0.3.0")
    dead = Move("promote", "0.2.0", "production", "0.1.0", "who died", time.time())
    append(store, NAME, sync(store, NAME).entries, dead)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "3")
    assert production(store) == "0.3.0"
    assert moves(store) == [("promote", "0.2.0", "production"), ("seen", "0.3.0", "production")]


def test_an_alias_that_was_taken_away_and_given_back_is_no_place_to_roll_back_to(store: Store):
    to_production(store, "0.2.0")
    client = mlflow.MlflowClient()
    client.delete_registered_model_alias(NAME, "production")
    assert production(store) is None
    client.set_registered_model_alias(NAME, "production", "2")
    assert production(store) == "0.2.0"
    assert roll_back(store).version.semver == "0.1.0"
    assert production(store) == "0.1.0"


def test_production_changed_to_staging_in_the_legacy_ui_no_longer_drives(store: Store):
    mlflow.MlflowClient().transition_model_version_stage(NAME, "1", "Staging")
    assert production(store) is None
    assert store.holders(NAME) == {"staging": "0.1.0"}
    assert moves(store) == [("seen", "0.1.0", "staging"), ("seen", "0.1.0", "left production")]
    assert mlflow.MlflowClient().get_model_version(NAME, "1").current_stage == "Staging"
    assert roll_back(store).version.semver == "0.1.0"


def test_a_tag_that_somebody_edits_brings_nothing_back(store: Store):
    archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    mlflow.MlflowClient().set_model_version_tag(NAME, "2", "stage", "candidate")
    assert store.resolve(parse_reference(f"{NAME}@>=0.1.0")).semver == "0.1.0"
    with pytest.raises(RefusedError, match=r"0\.2\.0 is archived"):
        to_production(store, "0.2.0")
    assert mlflow.MlflowClient().get_model_version(NAME, "2").tags["stage"] == "archived"


def test_taking_the_alias_away_does_not_lower_the_bar(store: Store, tmp_path: Path):
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    mlflow.MlflowClient().delete_registered_model_alias(NAME, "production")
    with pytest.raises(RefusedError, match=r"action\.rate_hz: 10\.0 → 20\.0"):
        to_production(store, "1.0.0")


def test_staging_rests_on_nobodys_evidence(store: Store):
    with mlflow.start_run():
        mlflow.set_tags({STEP_TAG: "evaluate", "digest": sync(store, NAME).version("0.1.0").digest})
    to_stage(store, f"{NAME}@0.2.0", "staging")
    assert sync(store, NAME).entries[-1].move.evidence == ()
    assert "evidence" not in mlflow.MlflowClient().get_model_version(NAME, "2").tags


def test_a_protected_alias_is_not_taken_by_archiving_its_holder(store: Store):
    to_stage(store, f"{NAME}@0.2.0", "staging")
    mlflow.MlflowClient().set_registered_model_tag(NAME, PROTECTED + "staging", "ann")
    with pytest.raises(RefusedError, match="staging is protected"):
        archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    assert store.holders(NAME)["staging"] == "0.2.0"


def test_a_model_under_the_journals_name_is_no_entry(store: Store):
    mlflow.MlflowClient().create_model_version(f"{NAME}.journal", "s3://elsewhere/model")
    to_production(store, "0.2.0")
    assert production(store) == "0.2.0"
    assert [entry.link for entry in sync(store, NAME).entries if entry.link is None] == []
