"""kill -9 at any step of register, promote or download: whoever comes next goes on from there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from killing import killed_at
from mlflow import MlflowClient
from registry_policies import NAME, cache_folder, changed, moved, registered, to_production

from carla_mlflow.artifact.folder import PARTIAL
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.rules.chain import problems
from registry.store.cache import cached_path, fetch_to_cache
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own
WHEN = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


def promote_again() -> None:
    to_production(Store(), "0.2.0")


def register_it(source: str) -> None:
    register(Store(), source, cache_folder(), bump="auto")


def fetch_it() -> None:
    store = Store()
    fetch_to_cache(store, sync(store, NAME).version("0.1.0"), cache_folder())


@pytest.mark.parametrize(
    "write", ["append", "begin_writing", "set_alias", "mirror_stages", "end_writing", "mark_applied"]
)
@WHEN
def test_a_promotion_is_whole_or_never_was(store: Store, tmp_path: Path, write: str, after: bool):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    killed_at(f"registry.store.store.Store.{write}", after, promote_again)
    state = sync(store, NAME)
    happened = (write, after) != ("append", False)  # what was entered is carried out, what was not did not happen
    held = "0.2.0" if happened else "0.1.0"
    assert state.holder("production") == store.holders(NAME)["production"] == held
    assert len([entry for entry in state.entries if entry.move.kind == "promote"]) == 1 + happened
    assert {v.semver: v.stage for v in store.versions(NAME)}[held] == "production"
    assert problems(state.entries) == []
    assert all(entry.applied for entry in state.entries[-1:])
    assert to_production(store, "0.2.0").version.stage == "production"


def canary_again() -> None:
    moved(Store(), "0.2.0", "canary", share=5.0)


def canary_to_production() -> None:
    moved(Store(), "0.2.0")


CANARY_WRITES = [
    *[(canary_again, write) for write in ("append", "begin_writing", "set_alias", "set_share", "mark_applied")],
    *[(canary_to_production, write) for write in ("append", "set_alias", "delete_alias", "delete_share")],
]


@pytest.mark.parametrize(("command", "write"), CANARY_WRITES)
@WHEN
def test_a_canary_has_its_share_or_never_was(store: Store, tmp_path: Path, command, write: str, after: bool):
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    if command is canary_to_production:
        canary_again()
    killed_at(f"registry.store.store.Store.{write}", after, command)
    state = sync(store, NAME)
    happened = (write, after) != ("append", False)
    is_canary = happened if command is canary_again else not happened
    assert (state.holder("canary"), state.holders.share) == (("0.2.0", 5.0) if is_canary else (None, 0.0))
    assert (store.holders(NAME).get("canary"), store.canary_share(NAME)) == (
        ("0.2.0", 5.0) if is_canary else (None, None)
    )
    assert state.holder("production") == ("0.2.0" if command is canary_to_production and happened else "0.1.0")
    assert [entry.move.kind for entry in state.entries].count("seen") == 0
    assert problems(state.entries) == []


class Slow(Store):
    """A registry's client that is stopped before its first write of an alias, while another version is promoted."""

    def set_alias(self, *arguments: Any) -> None:
        if not self.__dict__.setdefault("_has_waited", False):
            self.__dict__["_has_waited"] = True
            moved(Store(), "0.3.0")
        super().set_alias(*arguments)


def promote_late() -> None:
    moved(Slow(), "0.2.0")


@pytest.fixture
def late(store: Store, tmp_path: Path) -> Store:
    """A process wrote an alias late, and died before it took that back."""
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    killed_at("registry.moves.apply._restore_newer", False, promote_late)
    assert store.holders(NAME)["production"] == "0.2.0"
    return store


def moves(store: Store) -> list[tuple[str, str]]:
    found = [entry.move for entry in sync(store, NAME).entries]
    return [(move.kind, move.version) for move in found if move.kind != "register"]


def test_what_a_dead_process_wrote_late_is_taken_back_and_is_nobodys_move(late: Store):
    assert moves(late) == [("promote", "0.1.0"), ("promote", "0.2.0"), ("promote", "0.3.0")]
    assert late.holders(NAME)["production"] == sync(late, NAME).holder("production") == "0.3.0"
    assert {v.semver: v.stage for v in late.versions(NAME)}["0.3.0"] == "production"
    MlflowClient().set_registered_model_alias(NAME, "production", "2")  # once it is taken back, it is a person's
    assert moves(late)[-1] == ("seen", "0.2.0")


def test_a_move_that_the_dead_process_can_not_have_made_is_a_persons(late: Store):
    MlflowClient().set_registered_model_alias(NAME, "production", "1")
    assert moves(late)[-1] == ("seen", "0.1.0")
    assert late.holders(NAME)["production"] == "0.1.0"


def test_long_after_the_process_died_a_move_is_a_persons(late: Store):
    for entry in late.journal(NAME):
        for writer in entry.writers:
            MlflowClient().set_model_version_tag(f"{NAME}.journal", str(entry.number), writer, str(time.time() - 3600))
    assert moves(late)[-1] == ("seen", "0.2.0")


@WHEN
def test_who_takes_back_may_die_too(late: Store, after: bool):
    killed_at("registry.store.store.Store.set_alias", after, look_again)
    assert moves(late)[-1] == ("promote", "0.3.0")
    assert late.holders(NAME)["production"] == "0.3.0"


def look_again() -> None:
    sync(Store(), NAME)


@pytest.mark.parametrize("write", ["append", "create_version"])
@WHEN
def test_a_registration_is_taken_up_under_the_same_version(store: Store, tmp_path: Path, write: str, after: bool):
    registered(store, tmp_path, "0.1.0")
    source = changed(tmp_path, "0.1.0", description="another")
    killed_at(f"registry.store.store.Store.{write}", after, register_it, source)
    version, new = register(store, source, cache_folder(), bump="auto")
    assert (version.semver, new) == ("0.1.1", (write, after) != ("create_version", True))
    assert [version.semver for version in store.versions(NAME)] == ["0.1.0", "0.1.1"]
    assert problems(sync(store, NAME).entries) == []
    assert moved(store, "0.1.1").version.stage == "production"


@pytest.mark.parametrize("call", ["fsync", "rename"])
@WHEN
def test_a_download_is_whole_or_not_there(store: Store, tmp_path: Path, call: str, after: bool):
    [version] = registered(store, tmp_path, "0.1.0")
    place = cached_path(cache_folder(), version.digest)
    killed_at(f"os.{call}", after, fetch_it)
    left = sorted(place.parent.iterdir())
    assert place.exists() == ((call, after) == ("rename", True))
    assert [path.suffix for path in left if path != place] == ([] if place.exists() else [PARTIAL])
    assert fetch_to_cache(store, version, cache_folder()).digest == version.digest
