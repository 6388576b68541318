"""carla-registry history, watch, diff, show and gc, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import mlflow
import msgspec
import pytest
from registry_policies import NAME, at_another_rate, cache_folder, changed, registered, to_production
from tests_support import registry_here, run_command

from registry.moves.sync import sync
from registry.store.cache import fetch_to_cache
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    return store


def test_the_history_is_told_for_people_and_for_machines(store: Store):
    between = time.time()
    to_production(store, "0.2.0", reason="brakes earlier")
    done = registry_here("history", NAME)
    assert done.code == 0, done.err
    assert "promote: 0.2.0 → production (was 0.1.0)" in done.out
    assert "“brakes earlier”" in done.out
    found = json.loads(registry_here("history", NAME, "--json").out)
    assert [entry["kind"] for entry in found["entries"]] == ["register", "register", "promote", "promote"]
    assert f"head {found['head']}" in done.out
    then = datetime.fromtimestamp(between).isoformat()
    assert "production: 0.1.0" in registry_here("history", NAME, "--at", then).out
    assert (
        "no version held staging or production then" in registry_here("history", NAME, "--at", "2020-01-01T00:00").out
    )
    assert registry_here("history", NAME, "--at", "yesterday").code == 2


def test_what_people_typed_moves_no_cursor_and_forges_no_line(store: Store, tmp_path: Path):
    typed = "fine\n   9  promote: 6.6.6 \x1b[1A![](http://127.0.0.1/seen)`"
    to_production(store, "0.2.0", reason=typed)
    told = registry_here("history", NAME)
    assert len(told.out.splitlines()) == 5
    assert json.loads(registry_here("history", NAME, "--json").out)["entries"][-1]["why"] == typed
    other = changed(tmp_path, "0.3.0", description=typed)
    difference = registry_here("diff", f"{NAME}@0.1.0", other)
    refused = registry_here("resolve", f"{NAME}@{typed}")
    assert (difference.code, refused.code) == (0, 1)
    for text in (told.out, difference.out, refused.err):
        assert r"\x1b[1A" in text
        assert text.replace("\n", "").isprintable()
    page = mlflow.MlflowClient().get_model_version(f"{NAME}.journal", "4").description
    assert (page[0], page[-1], page.count("`"), page.isprintable()) == ("`", "`", 2, True)


def test_a_journal_that_was_tampered_with_in_mlflow_does_not_pass_the_check(store: Store):
    head = sync(store, NAME).entries[-1].hash
    done = registry_here("history", NAME, "--check", "--head", head)
    assert (done.code, done.out.startswith("intact: 3 entries")) == (0, True)
    client, journal = mlflow.MlflowClient(), f"{NAME}.journal"
    forged = client.get_model_version(journal, "2").tags["entry"].replace("0.2.0", "6.6.6")
    client.set_model_version_tag(journal, "2", "entry", forged)
    done = registry_here("history", NAME, "--check")
    assert (done.code, "entry 2 was edited" in done.out) == (1, True)
    client.delete_model_version(journal, "2")
    done = registry_here("history", NAME, "--check")
    assert (done.code, "entry 2, before entry 3, was removed" in done.out) == (1, True)
    client.delete_model_version(journal, "3")
    done = registry_here("history", NAME, "--check", "--head", head)
    assert (done.code, "cut off at the end" in done.out) == (1, True)
    to_production(store, "0.2.0")  # and whatever happened to the journal, a policy can still be moved


@pytest.mark.parametrize("number", ["1", "3"])
def test_an_entry_that_nobody_can_read_is_told_and_stops_nothing(store: Store, number: str):
    mlflow.MlflowClient().set_model_version_tag(f"{NAME}.journal", number, "entry", "nonsense")
    done = registry_here("history", NAME)
    assert (done.code, f"{number}  can't be read: it was edited" in done.out) == (0, True), done.err
    found = json.loads(registry_here("history", NAME, "--json").out)["entries"]
    assert "can't be read" in found[int(number) - 1]["problem"]
    to_production(store, "0.2.0")
    assert store.holders(NAME) == sync(store, NAME).holders.aliases == {"production": "0.2.0"}
    assert registry_here("history", NAME, "--check").code == 1


def test_a_history_outlives_its_policy(store: Store):
    mlflow.MlflowClient().delete_registered_model(NAME)
    done = registry_here("history", NAME)
    assert (done.code, "0.1.0 → production" in done.out) == (0, True), done.err
    assert "is no longer in the registry" in done.err
    assert registry_here("history", "nobody").code == 1


def test_the_journal_is_no_policy(store: Store):
    assert store.names() == [NAME]
    assert f"{NAME}.journal" not in registry_here("list").out


def test_watch_journals_a_move_in_the_ui_while_it_runs(store: Store):
    program = Path(sys.executable).parent / "carla-registry"
    command = [str(program), "watch", NAME, "--every", "0.3"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "2")
        assert watching.stdout is not None
        line = watching.stdout.readline()
    finally:
        watching.terminate()
        watching.communicate()
    assert "seen in MLflow's UI: 0.2.0 → production (was 0.1.0)" in line
    assert mlflow.MlflowClient().get_model_version(NAME, "2").current_stage == "Production"


def test_diff_says_what_changed_and_which_step_is_due(store: Store, tmp_path: Path):
    other = changed(tmp_path, "5.0.0", action=at_another_rate(20.0), description="other words")
    done = registry_here("diff", f"{NAME}@0.1.0", other)
    assert done.code == 0, done.err
    for part in ("action.rate_hz: 10.0 → 20.0", "description: 0.1.0 → other words", "steer 0", "step       major"):
        assert part in done.out
    found = json.loads(registry_here("diff", f"{NAME}@0.1.0", f"{NAME}@0.2.0", "--json").out)
    assert (found["contract"], found["step"]) == ([], "patch")


def test_show_tells_all_of_a_version(store: Store):
    done = registry_here("show", f"{NAME}@production")
    assert done.code == 0
    assert "sha256:" in done.out
    assert json.loads(registry_here("show", f"{NAME}@production", "--json").out)["semver"] == "0.1.0"


def test_rollback_and_archive_are_commands_with_reasons(store: Store):
    assert registry_here("promote", f"{NAME}@0.2.0", "--to", "production", "--force", "--reason", "a test").code == 0
    done = registry_here("rollback", NAME, "--reason", "swerves", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["version"]["semver"], told["from"], told["to"]) == ("0.1.0", "0.2.0", "production")
    assert registry_here("archive", f"{NAME}@0.2.0", "--dry-run").code == 0
    assert "archived racetrack-policy 0.2.0" in registry_here("archive", f"{NAME}@0.2.0").out
    refused = registry_here("archive", f"{NAME}@0.1.0")
    assert (refused.code, "0.1.0 is in production" in refused.err) == (1, True)


def test_a_dry_run_of_a_forced_move_says_what_the_move_does(store: Store):
    forced = ("promote", f"{NAME}@0.2.0", "--to", "production", "--force", "--reason", "a test")
    tried = registry_here(*forced, "--dry-run")
    assert (tried.code, "would be promoted: " in tried.out, "refused" in tried.out) == (0, True, False), tried.err
    assert registry_here(*forced[:-3], "--dry-run").code == 1
    done = registry_here(*forced)
    assert done.code == 0
    assert [line for line in done.out.splitlines() if "overruled" in line] == [
        line for line in tried.out.splitlines() if "overruled" in line
    ]
    told = registry_here("history", NAME).out
    assert "“a test”  overruled: evidence" in told
    assert f"      overruled: evidence: {NAME}@0.2.0 was not evaluated" in told


def test_gc_leaves_what_is_being_written_and_takes_what_a_killed_process_left(mlflow_home: Path):
    young, old = (cache_folder() / "artifacts" / f".{name}.partial" for name in ("young", "old"))
    for folder in (young, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    (young.parent / ".DS_Store").touch()  # no artifact, and nobody's business
    assert registry_here("gc", "--yes").code == 0
    assert (young.exists(), old.exists()) == (True, False)


def test_gc_removes_what_no_server_remembers_and_asks_first(store: Store):
    kept, forgotten = (fetch_to_cache(store, version, cache_folder()).path for version in store.versions(NAME))
    (cache_folder() / "references").mkdir()
    (cache_folder() / "references" / "a.json").write_bytes(msgspec.json.encode({"path": str(kept)}))
    done = run_command("carla-registry", "gc")
    assert (done.code, "nothing removed" in done.err) == (1, True)
    assert forgotten.exists()
    done = registry_here("gc", "--yes")
    assert done.code == 0, done.err
    assert (kept.exists(), forgotten.exists()) == (True, False)
    assert forgotten.name[:12] in done.out
    assert "nothing to remove" in registry_here("gc").out
