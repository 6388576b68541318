"""Versions' pages in MLflow: described as they are registered, judged and moved, and never over a person's text."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from registry_policies import NAME, cache_folder, changed, enter, registered, roll_back, to_production
from tests_support import command_here, registry_here

from carla_mlflow.errors import RefusedError
from carla_mlflow.flavor.opening import PolicyIdentity
from registry.moves.compare_runs import FILE
from registry.moves.judge import promotion_gates
from registry.moves.promotion import archive, promote
from registry.moves.sync import sync
from registry.moves.terms import MoveOptions
from registry.pages.signed import may_replace
from registry.rules.chain import problems
from registry.rules.reference import parse_reference
from registry.store.store import Store
from training_export.evaluation.evidence_run import log_drives

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own
BY_HAND = "Ours by hand: do not touch."


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    return store


def text_of(store: Store, version: str) -> str:
    found = store.find(NAME, version)
    assert found is not None
    return store.description(found)


def write_by_hand(store: Store, version: str, text: str) -> None:
    found = store.find(NAME, version)
    assert found is not None
    MlflowClient().update_model_version(NAME, found.number, text)


def log_evaluation_of(store: Store, version: str) -> str:
    found = store.find(NAME, version)
    assert found is not None
    row = {"driver": "policy", "seed": 1, "reward": 3.5, "collision": False, "success": True}
    with mlflow.start_run() as run:
        figures = {"policy": {"episodes": 1, "success_rate": 1.0, "reward_mean": 3.5}}
        log_drives(PolicyIdentity(NAME, version, found.digest), {}, {"env": "town05"}, figures, [row])
    return str(run.info.run_id)


def test_a_version_is_described_when_it_is_registered_and_again_when_it_moves_or_is_displaced(store: Store):
    assert f"carla-serve --model {NAME}@0.2.0" in text_of(store, "0.2.0")
    assert f"carla-serve --model {NAME}@production" in text_of(store, "0.1.0")
    to_production(store, "0.2.0", reason="brakes earlier")
    assert "“brakes earlier”" in text_of(store, "0.2.0")
    assert "all passed (integrity, contract, latency)" in text_of(store, "0.2.0")
    assert f"carla-serve --model {NAME}@0.1.0" in text_of(store, "0.1.0")
    roll_back(store)
    assert f"carla-serve --model {NAME}@production" in text_of(store, "0.1.0")
    assert " until " in text_of(store, "0.2.0")
    archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    assert "archived: no range means it any more" in text_of(store, "0.2.0")
    assert "carla-serve" not in text_of(store, "0.2.0")


def test_what_was_moved_in_mlflows_ui_is_described_as_soon_as_it_is_journalled(store: Store):
    version = store.find(NAME, "0.2.0")
    assert version is not None
    store.set_alias(version, "production")
    sync(store, NAME)
    assert "moved in MLflow, not judged by gates" in text_of(store, "0.2.0")
    assert f"carla-serve --model {NAME}@0.1.0" in text_of(store, "0.1.0")


def test_what_was_moved_in_mlflows_ui_before_a_move_is_described_after_it(store: Store):
    version = store.find(NAME, "0.2.0")
    assert version is not None
    store.set_alias(version, "production")
    archive(store, parse_reference(f"{NAME}@0.1.0"), MoveOptions())
    assert "moved in MLflow, not judged by gates" in text_of(store, "0.2.0")


def test_a_text_that_a_person_wrote_or_changed_is_kept(store: Store):
    write_by_hand(store, "0.2.0", BY_HAND)
    edited = text_of(store, "0.1.0").replace("racetrack", "race track")
    write_by_hand(store, "0.1.0", edited)
    to_production(store, "0.2.0")
    assert text_of(store, "0.2.0") == BY_HAND
    assert text_of(store, "0.1.0") == edited
    told = registry_here("describe", NAME)
    assert told.code == 0, told.err
    assert told.out.count("kept: a person wrote it") == 2
    write_by_hand(store, "0.1.0", "")
    assert f"{NAME} 0.1.0: written" in registry_here("describe", f"{NAME}@0.1.0").out
    assert may_replace(text_of(store, "0.1.0"))
    assert f"{NAME} 0.1.0: is current" in registry_here("describe", f"{NAME}@0.1.0").out


def test_a_refusal_is_on_the_page_until_newer_evidence_is_logged(store: Store, tmp_path: Path):
    gates, reference = promotion_gates("production"), parse_reference(f"{NAME}@0.2.0")
    with pytest.raises(RefusedError):
        promote(store, reference, "production", cache_folder(), MoveOptions(), gates)
    assert "**Gates** refused it for production" in text_of(store, "0.2.0")
    assert f"{NAME}@0.2.0 was not evaluated" in text_of(store, "0.2.0")
    (tmp_path / "drives.csv").write_text("driver,seed,success,collision,reward\npolicy,1000000,1,0,3.5\n")
    evidence = ("log-evidence", f"{NAME}@0.2.0", str(tmp_path / "drives.csv"), "--env", "town05", "--env-version", "1")
    done = command_here("training_export", *evidence)
    assert done.code == 0, done.err
    assert "**Drove** in town05, [run " in text_of(store, "0.2.0")
    assert "no fault 100.0%, collisions 0.0%" in text_of(store, "0.2.0")
    assert "refused" not in text_of(store, "0.2.0")


def test_a_dry_run_writes_no_description(store: Store):
    before = text_of(store, "0.2.0")
    gates, reference = promotion_gates("production"), parse_reference(f"{NAME}@0.2.0")
    promote(store, reference, "production", cache_folder(), MoveOptions(dry_run=True), gates)
    assert text_of(store, "0.2.0") == before


def test_a_move_whose_descriptions_can_not_be_written_is_made_all_the_same(
    store: Store, mlflow_home: Path, capsys: pytest.CaptureFixture[str]
):
    before = text_of(store, "0.2.0")
    refuse = "BEGIN SELECT RAISE(ABORT, 'descriptions are not written here'); END"
    with contextlib.closing(sqlite3.connect(mlflow_home / "mlflow.db")) as database, database:
        database.execute(f"CREATE TRIGGER refuse BEFORE UPDATE OF description ON model_versions {refuse}")
    moved = to_production(store, "0.2.0", reason="in spite of all")
    assert (moved.version.stage, moved.displaced) == ("production", "0.1.0")
    assert f"the description of {NAME} 0.2.0 in MLflow is not up to date" in capsys.readouterr().err
    entries = sync(store, NAME).entries
    assert (entries[-1].move.why, entries[-1].applied, problems(entries)) == ("in spite of all", True, [])
    assert text_of(store, "0.2.0") == before


def test_the_journal_keeps_what_every_gate_found(store: Store):
    to_production(store, "0.2.0")
    move = sync(store, NAME).entries[-1].move
    assert [(found.gate, found.passed) for found in move.findings][:2] == [("integrity", True), ("contract", True)]


def test_the_runs_have_the_card_and_the_comparison_with_the_champion(store: Store, tmp_path: Path):
    version, _ = enter(store, changed(tmp_path, "0.3.0"))
    files = {file.path: file for file in mlflow.artifacts.list_artifacts(run_id=version.run_id)}
    assert {FILE, "model_card.yaml"} <= files.keys()
    page = Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=FILE)).read_text()
    assert f"{NAME} 0.1.0 → {NAME} 0.3.0" in page
    run = mlflow.get_run(version.run_id)
    assert {key: run.data.tags[key] for key in ("carla.step", "policy", "semver", "digest")} == {
        "carla.step": "register",
        "policy": NAME,
        "semver": "0.3.0",
        "digest": version.digest,
    }
    assert run.data.metrics["closed_loop/success_rate"] == 0.9
    evaluation = log_evaluation_of(store, "0.3.0")
    forced = MoveOptions(force=True, reason="to see")
    promote(
        store, parse_reference(f"{NAME}@0.3.0"), "production", cache_folder(), forced, promotion_gates("production")
    )
    page = Path(mlflow.artifacts.download_artifacts(run_id=evaluation, artifact_path=FILE)).read_text()
    assert "What the gates found" in page
