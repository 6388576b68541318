"""carla-registry and canaries, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, registered, to_production
from tests_support import registry_here

from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own
PROMOTE = ("promote", f"{NAME}@0.2.0", "--to", "canary")
FORCED = ("--force", "--reason", "a test")


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0")
    to_production(store, "0.1.0")
    return store


def test_a_canary_is_promoted_shown_changed_and_ended(store: Store):
    done = registry_here(*PROMOTE, "--share", "5", *FORCED)
    assert done.code == 0, done.err
    assert "canary: none → 0.2.0 with 5 % of the episodes" in done.out
    assert "evidence: " in done.out  # the gates of production, here overruled
    [row] = [line for line in registry_here("list").out.splitlines() if " 0.2.0 " in line]
    assert row.split()[2:6] == ["candidate", "canary", "(5", "%)"]
    assert "canary (5 %)" in registry_here("show", f"{NAME}@canary").out
    assert json.loads(registry_here("show", f"{NAME}@canary", "--json").out)["canary_share"] == 5.0
    assert json.loads(registry_here("list", "--json").out)["canary_shares"] == {NAME: 5.0}
    lower = registry_here(*PROMOTE, "--share", "0.5", "--reason", "at night")
    assert "canary: 0.2.0 → 0.2.0 with 0.5 % of the episodes" in lower.out
    assert "holds canary already with 0.5 % of the episodes" in registry_here(*PROMOTE, "--share", "0.5").out
    ended = registry_here("rollback", NAME, "--stage", "canary", "--reason", "brakes late")
    assert ended.out.startswith(f"canary ended: {NAME} 0.2.0  candidate")
    history = registry_here("history", NAME).out
    assert "promote: 0.2.0 → canary 5 %  by " in history
    assert "promote: 0.2.0 → canary 0.5 %  by " in history
    assert "rollback: 0.2.0 → left canary  by " in history
    assert registry_here("history", NAME, "--check").code == 0


def test_the_history_tells_the_share_of_a_time(store: Store):
    registry_here(*PROMOTE, "--share", "5", *FORCED)
    assert registry_here("history", NAME, "--at", "2100-01-01T00:00").out.splitlines()[0] == "canary (5 %): 0.2.0"
    told = json.loads(registry_here("history", NAME, "--at", "2100-01-01T00:00", "--json").out)
    assert (told["holders"], told["canary_share"]) == ({"production": "0.1.0", "canary": "0.2.0"}, 5.0)


def test_an_alias_that_was_set_in_the_ui_is_listed_without_a_share_and_watch_journals_it(store: Store):
    mlflow.MlflowClient().set_registered_model_alias(NAME, "canary", "2")
    assert "canary (no share)" in registry_here("list").out
    assert "seen in MLflow's UI: 0.2.0 → canary 0 %" in registry_here("watch", NAME, "--once").out


def test_a_dry_run_says_what_would_be_refused(store: Store):
    done = registry_here(*PROMOTE, "--share", "5", "--dry-run")
    assert done.code == 1
    assert done.out.startswith("would be refused:")
    assert "canary: none → 0.2.0 with 5 % of the episodes" in done.out
    assert store.canary(NAME) is None


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (PROMOTE, 1, "--to canary needs --share PERCENT"),
        ((*PROMOTE, "--share", "120"), 2, "'120': expected a percentage from 0 to 100"),
        ((*PROMOTE, "--share", "0.125"), 2, "with at most two decimals, such as 5 or 0.25"),
        ((*PROMOTE, "--share", "5", "--allow-breaking"), 1, "a canary answers the same cars as production"),
        (("promote", f"{NAME}@0.2.0", "--to", "staging", "--share", "5"), 1, "--share is for --to canary"),
        (("promote", f"{NAME}@0.1.0", "--to", "canary", "--share", "5"), 1, "answers all episodes already"),
        (("rollback", NAME, "--stage", "canary"), 1, "there is no canary"),
    ],
)
def test_a_mistake_is_one_clear_line(store: Store, arguments: tuple[str, ...], code: int, complaint: str):
    done = registry_here(*arguments)
    assert (done.code, complaint in done.err) == (code, True), done.err
    assert code == 2 or len([line for line in done.err.splitlines() if complaint in line]) == 1
