"""Promote, roll back, archive: judged, journalled, carried out; by whoever, in whatever order."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import mlflow
import pytest
from registry_policies import (
    NAME,
    at_another_rate,
    cache_folder,
    changed,
    moved,
    registered,
    roll_back,
    to_production,
    to_stage,
)

from carla_mlflow.errors import NotFoundError, RefusedError
from registry.gates.candidate import Finding
from registry.moves.promotion import archive, promote
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import GateResult, MoveOptions
from registry.rules.chain import NO_PREVIOUS_HASH, problems
from registry.rules.journal import say
from registry.rules.reference import parse_reference
from registry.rules.replay import at
from registry.store.cache import cached_path, fetch_to_cache
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


def moves(store: Store) -> list[tuple[str, str, str | None, str]]:
    found = [entry.move for entry in sync(store, NAME).entries]
    return [(m.kind, m.version, m.displaced, m.to) for m in found if m.kind != "register"]


def production(store: Store) -> str | None:
    return store.holders(NAME).get("production")


def test_each_move_is_an_entry_that_says_who_when_from_to_and_why(store, tmp_path, monkeypatch):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    began = time.time()
    to_production(store, "0.2.0", reason="brakes earlier", expect="0.1.0")
    entries = sync(store, NAME).entries
    move = entries[-1].move
    assert (move.kind, move.version, move.displaced, move.to) == ("promote", "0.2.0", "0.1.0", "production")
    assert (move.who, move.why) == ("ann", "brakes earlier")
    assert began <= move.when <= time.time()
    assert entries[0].link.previous == NO_PREVIOUS_HASH
    assert problems(entries) == []


def test_promoting_who_is_there_already_writes_nothing(store, tmp_path):
    registered(store, tmp_path, "0.1.0", production="0.1.0")
    before = len(sync(store, NAME).entries)
    assert to_production(store, "0.1.0").entry is None
    assert len(sync(store, NAME).entries) == before


def test_a_roll_back_goes_one_step_further_each_time_and_then_says_that_there_is_none(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    for version in ("0.2.0", "0.3.0"):
        moved(store, version)
    assert [roll_back(store).version.semver for _ in range(2)] == [
        "0.2.0",
        "0.1.0",
    ]
    assert production(store) == "0.1.0"
    with pytest.raises(RefusedError, match="no earlier version can take production again"):
        roll_back(store)


def test_a_roll_back_passes_over_what_was_archived_meanwhile(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    for version in ("0.2.0", "0.3.0"):
        moved(store, version)
    archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    assert roll_back(store).version.semver == "0.1.0"
    with pytest.raises(RefusedError, match="no earlier version can take production again"):
        roll_back(store)


def test_a_roll_back_over_another_contract_is_refused_in_words_unless_it_is_allowed(store, tmp_path):
    registered(store, tmp_path, "0.1.0", production="0.1.0")
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    to_production(store, "1.0.0", force=True, reason="the cars are ready")
    with pytest.raises(RefusedError, match=r"action\.rate_hz: 20\.0 → 10\.0 \(differs from .*--allow-breaking"):
        roll_back(store)
    assert production(store) == "1.0.0"
    assert roll_back(store, allow_breaking=True).version.semver == production(store) == "0.1.0"
    last = sync(store, NAME).entries[-1]
    assert last.link.move.evidence == ("allowed: contract: action.rate_hz: 20.0 → 10.0",)
    assert say(last).endswith("  allowed: contract")


def test_a_roll_back_does_not_need_what_drives_now(store, tmp_path, mlflow_home):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    moved(store, "0.2.0")
    for card in mlflow_home.rglob("artifacts/policy/model_card.yaml"):
        if "description: 0.2.0" in card.read_text():
            shutil.rmtree(card.parent)
    shutil.rmtree(cache_folder())
    assert roll_back(store).version.semver == production(store) == "0.1.0"


def test_an_archived_version_is_in_no_range_and_does_not_come_back(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.1.1")
    archived = archive(store, parse_reference(f"{NAME}@0.1.1"), MoveOptions(reason="worn"))
    assert archived.version.stage == "archived"
    assert store.resolve(parse_reference(f"{NAME}@^0.1")).semver == "0.1.0"
    assert mlflow.MlflowClient().get_model_version(NAME, "2").current_stage == "Archived"
    with pytest.raises(RefusedError, match="does not come back"):
        to_production(store, "0.1.1")
    with pytest.raises(RefusedError, match="archived already"):
        archive(store, parse_reference(f"{NAME}@0.1.1"), MoveOptions())


def test_another_contract_is_refused_in_words_unless_it_is_allowed_or_forced_with_a_reason(store, tmp_path):
    registered(store, tmp_path, "0.1.0", production="0.1.0")
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    with pytest.raises(RefusedError, match=r"action\.rate_hz: 10\.0 → 20\.0"):
        to_production(store, "1.0.0")
    with pytest.raises(RefusedError, match="--force needs --reason"):
        to_production(store, "1.0.0", force=True)
    moved = to_production(store, "1.0.0", force=True, reason="the cars are ready")
    assert "rate_hz" in moved.shortfalls[0]
    [overruled] = sync(store, NAME).entries[-1].move.evidence
    assert overruled.startswith("overruled: ")
    assert production(store) == "1.0.0"


def test_what_is_not_what_was_registered_is_not_promoted(store, tmp_path, mlflow_home):
    [version] = registered(store, tmp_path, "0.1.0")
    [stored] = mlflow_home.rglob("artifacts/policy/golden.npz")
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(RefusedError, match=r"golden\.npz: its bytes differ"):
        to_production(store, "0.1.0")
    assert production(store) is None
    assert not cached_path(cache_folder(), version.digest).exists()


def test_a_dry_run_judges_and_writes_nothing(store, tmp_path):
    registered(store, tmp_path, "0.1.0", production="0.1.0")
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    before = [entry.number for entry in sync(store, NAME).entries]
    assert "rate_hz" in to_production(store, "1.0.0", dry_run=True).shortfalls[0]
    assert [entry.number for entry in sync(store, NAME).entries] == before
    assert production(store) == "0.1.0"


def test_a_protected_alias_is_moved_by_listed_users_only(store, tmp_path, monkeypatch):
    registered(store, tmp_path, "0.1.0")
    mlflow.MlflowClient().set_registered_model_tag(NAME, "protected.production", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve")
    with pytest.raises(RefusedError, match="production is protected: only ann may move it, and you are eve"):
        to_production(store, "0.1.0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    to_production(store, "0.1.0")


def test_of_two_promotions_at_the_same_moment_one_wins_and_the_other_is_refused(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    for version in store.versions(NAME):
        fetch_to_cache(store, version, cache_folder())
    told: dict[str, str] = {}
    together = threading.Barrier(2)

    def ask(version: str) -> None:
        together.wait()
        try:
            to_production(Store(), version, expect="0.1.0")
            told[version] = "won"
        except RefusedError as error:
            told[version] = str(error)

    threads = [threading.Thread(target=ask, args=(version,)) for version in ("0.2.0", "0.3.0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner, loser = sorted(told, key=lambda version: told[version] != "won")
    assert told[winner] == "won"
    assert f"production is held by {winner}, not by 0.1.0" in told[loser]
    assert production(store) == winner
    assert [move for move in moves(store) if move[0] == "promote"] == [
        ("promote", "0.1.0", None, "production"),
        ("promote", winner, "0.1.0", "production"),
    ]
    assert problems(sync(store, NAME).entries) == []


def test_an_alias_moved_in_the_ui_is_journalled_once_and_mirrored(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(NAME, "production", "2")
    watchers = [threading.Thread(target=sync, args=(Store(), NAME)) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    assert moves(store)[-1] == ("seen", "0.2.0", "0.1.0", "production")
    assert [move[0] for move in moves(store)] == ["promote", "seen"]
    assert [client.get_model_version(NAME, number).current_stage for number in ("1", "2")] == ["None", "Production"]
    client.delete_registered_model_alias(NAME, "production")
    assert moves(store)[-1] == ("seen", "0.2.0", None, "candidate")
    assert client.get_model_version(NAME, "2").current_stage == "None"
    assert roll_back(store).version.semver == "0.2.0"


def test_what_a_promotion_rested_on_is_linked_from_the_version(store, tmp_path):
    registered(store, tmp_path, "0.1.0")
    result = GateResult([Finding("evidence", False, "few episodes")], ("runs:/11", "runs:/22"))
    asked = MoveOptions(force=True, reason="we know")
    promote(store, parse_reference(f"{NAME}@0.1.0"), "production", cache_folder(), asked, lambda *_: result)
    assert mlflow.MlflowClient().get_model_version(NAME, "1").tags["evidence"].splitlines() == ["runs:/11", "runs:/22"]


def test_an_alias_taken_away_in_the_ui_leaves_the_version_the_other_one(store, tmp_path):
    registered(store, tmp_path, "0.1.0")
    to_stage(store, f"{NAME}@0.1.0", "staging")
    to_production(store, "0.1.0")
    mlflow.MlflowClient().delete_registered_model_alias(NAME, "staging")
    assert moves(store)[-1] == ("seen", "0.1.0", None, "left staging")
    assert store.holders(NAME) == sync(store, NAME).holders.aliases == {"production": "0.1.0"}


def test_a_legacy_stage_changed_in_the_ui_moves_the_alias(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    client = mlflow.MlflowClient()
    client.transition_model_version_stage(NAME, "2", "Production")
    assert moves(store)[-1] == ("seen", "0.2.0", "0.1.0", "production")
    assert production(store) == "0.2.0"
    client.transition_model_version_stage(NAME, "1", "Archived")
    assert moves(store)[-1] == ("seen", "0.1.0", None, "archived")
    with pytest.raises(NotFoundError):
        store.resolve(parse_reference(f"{NAME}@<0.2"))


def test_a_promotion_over_a_move_in_the_ui_that_nobody_saw_yet_is_refused_by_expect(store, tmp_path):
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "2")
    with pytest.raises(RefusedError, match=r"held by 0\.2\.0, not by 0\.1\.0"):
        to_production(store, "0.3.0", expect="0.1.0")
    assert moves(store)[-1] == ("seen", "0.2.0", "0.1.0", "production")


def test_what_held_when_is_told_over_twenty_moves_made_here_and_in_the_ui(store, tmp_path):
    registered(store, tmp_path, *(f"0.{minor}.0" for minor in range(1, 5)))
    client = mlflow.MlflowClient()
    told: list[tuple[float, str]] = []
    for step in range(20):
        version = step % 4 + 1
        if step % 3 == 2:
            client.set_registered_model_alias(NAME, "production", str(version))
            sync(store, NAME)
        else:
            moved(store, f"0.{version}.0")
        told.append((time.time(), f"0.{version}.0"))
    entries = sync(store, NAME).entries
    assert [at(entries, when)[0].aliases["production"] for when, _ in told] == [version for _, version in told]
    assert len(moves(store)) == 20
