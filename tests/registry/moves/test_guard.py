"""A guard rolls a version back or ends its bake, once, whatever happens to it, and whoever guards beside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from killing import killed_at, started
from made_up_traffic import Growth, told_by_a_server
from mlflow import MlflowClient
from registry_policies import (
    NAME,
    at_another_rate,
    cache_folder,
    changed,
    moved,
    registered,
    roll_back,
)

from carla_mlflow.errors import RefusedError
from registry.checks.scrape import Servers
from registry.commands.history import say_bakes
from registry.moves.guard import Event, Guard
from registry.moves.judge import promotion_gates
from registry.moves.promotion import archive, promote
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import MoveOptions
from registry.rules.alarms import Bar
from registry.rules.baking import GUARDED, baking
from registry.rules.chain import problems
from registry.rules.journal import Bake
from registry.rules.reference import parse_reference
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own
WHEN = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])

ALARMS = (Bar("saturation.steer>0.5", 0.5), Bar("p99_ms>10", 10.0))
BAD = Growth(1000, saturated=990)
GOOD = Growth(1000, saturated=10)


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, *(f"0.{minor}.0" for minor in (1, 2, 3, 4)), production="0.1.0")
    return store


def promote_baking(store: Store, version: str = "0.2.0", duration_s: float = 1800.0) -> None:
    moved(store, version, bake=Bake(duration_s, ALARMS))


def guarding(url: str) -> Guard:
    return Guard(NAME, Servers((url,)), cache_folder(), Store)


def guard_to_the_end(url: str, seconds: float = 60.0) -> Event:
    """As the command does, without the pauses between looks."""
    guard, ends = guarding(url), time.monotonic() + seconds
    while time.monotonic() < ends:
        events = guard.look()
        if not events:
            return Event(None, "nothing bakes", "")  # type: ignore[arg-type]
        if events[0].kind in ("rolled back", "ended", "stuck"):
            return events[0]
    raise AssertionError(events)


def kinds(store: Store) -> list[str]:
    return [entry.move.kind for entry in sync(store, NAME).entries if entry.move.kind != "register"]


def test_a_version_that_saturates_is_rolled_back_after_two_looks_with_its_figures(store: Store):
    promote_baking(store)
    with told_by_a_server(v0_2_0=BAD) as url:
        guard = guarding(url)
        assert [guard.look()[0].kind for _ in range(3)] == ["watching", "watching", "rolled back"]
    state = sync(store, NAME)
    assert state.holder("production") == store.holders(NAME)["production"] == "0.1.0"
    last = state.entries[-1].move
    assert (last.kind, last.version, last.displaced) == ("rollback", "0.1.0", "0.2.0")
    assert "saturation.steer>0.5: 99 % (990 of 1,000), then 99 % (990 of 1,000); the bar is 50 %" in last.why
    assert [text for text in last.evidence if text.startswith("alarm p99_ms>10: 0 % took longer (0 of 2,000)")]
    assert "evidence" not in MlflowClient().get_model_version(NAME, "1").tags  # no runs are linked


def test_a_version_whose_figures_are_fine_has_baked_when_the_time_is_over(store: Store):
    promote_baking(store, duration_s=0.5)
    with told_by_a_server(v0_2_0=GOOD) as url:
        event = guard_to_the_end(url)
    assert (event.kind, "0.2.0 has baked in production without an alarm" in event.text) == ("ended", True)
    state = sync(store, NAME)
    assert state.holder("production") == "0.2.0"
    last = state.entries[-1].move
    assert (last.kind, last.version, last.to) == ("baked", "0.2.0", "production")
    assert last.evidence[0].startswith("alarm saturation.steer>0.5: 1 % (")
    assert baking(state.entries) == []


def test_a_bake_without_requests_neither_ends_nor_is_rolled_back(store: Store):
    promote_baking(store, duration_s=0.1)
    with told_by_a_server(v0_1_0=BAD, v0_2_0=Growth(0)) as url:
        guard = guarding(url)
        kinds_seen = [guard.look()[0].kind for _ in range(5)]
        waits = guard.look()[0].text
    assert kinds_seen[-1] == "waits"
    assert "production: the time of 0.2.0's bake is over, but it goes on: " in waits
    few = "fewer than 30 requests were seen so far"
    assert waits.endswith(f": saturation.steer>0.5: {few}; p99_ms>10: {few}")
    assert kinds(store) == ["promote", "promote"]
    assert "overdue since" in say_bakes(store, NAME, sync(store, NAME).entries)[0]


def test_other_versions_figures_are_not_held_against_the_one_that_bakes(store: Store):
    promote_baking(store)
    with told_by_a_server(v0_1_0=BAD, v0_2_0=GOOD) as url:
        guard = guarding(url)
        assert {guard.look()[0].kind for _ in range(5)} == {"watching"}


def test_a_server_that_is_away_is_named_and_the_others_are_judged(store: Store):
    promote_baking(store)
    with told_by_a_server(v0_2_0=BAD) as url, told_by_a_server() as empty:
        guard = Guard(NAME, Servers((url, "http://127.0.0.1:1", empty)), cache_folder(), Store)
        assert guard.look()[0].kind == "watching"
        assert set(guard.unread) == {"http://127.0.0.1:1", empty}
        assert [guard.look()[0].kind for _ in range(2)][-1] == "rolled back"


def test_it_goes_back_to_no_version_that_is_archived_or_was_rolled_back(store: Store, tmp_path: Path):
    moved(store, "0.2.0")
    roll_back(store)  # 0.2.0 was no good
    moved(store, "0.3.0")
    promote_baking(store, "0.4.0")
    archive(store, parse_reference(f"{NAME}@0.3.0"), MoveOptions())
    with told_by_a_server(v0_4_0=BAD) as url:
        assert guard_to_the_end(url).kind == "rolled back"
    assert store.holders(NAME)["production"] == "0.1.0"


def test_it_does_not_go_back_to_a_version_that_was_rolled_back_and_promoted_again(store: Store, tmp_path: Path):
    moved(store, "0.2.0")
    roll_back(store)
    moved(store, "0.2.0")
    promote_baking(store, "0.3.0")
    with told_by_a_server(v0_3_0=BAD) as url:
        assert guard_to_the_end(url).kind == "rolled back"
    assert store.holders(NAME)["production"] == "0.1.0"
    moved(store, "0.2.0")
    moved(store, "0.3.0")
    assert roll_back(store).version.semver == "0.2.0"  # a person may


def test_where_there_is_nothing_to_go_back_to_it_says_so_and_moves_nothing(store: Store):
    promote_baking(store)
    archive(store, parse_reference(f"{NAME}@0.1.0"), MoveOptions())
    with told_by_a_server(v0_2_0=BAD) as url:
        event = guard_to_the_end(url)
    assert event.kind == "stuck"
    assert "no earlier version can take production again" in event.text
    assert store.holders(NAME)["production"] == "0.2.0"


def test_a_person_who_promotes_meanwhile_ends_the_bake(store: Store, tmp_path: Path):
    promote_baking(store)
    with told_by_a_server(v0_2_0=BAD) as url:
        guard = guarding(url)
        guard.look()
        moved(store, "0.3.0")
        [gone] = guard.look()
        assert [guard.look() for _ in range(2)] == [[], []]
    assert (gone.kind, "0.2.0 left production, by " in gone.text) == ("ended", True)
    assert store.holders(NAME)["production"] == "0.3.0"


def test_a_guard_says_in_the_registry_that_it_looks(store: Store):
    promote_baking(store)
    [unguarded] = say_bakes(store, NAME, sync(store, NAME).entries)
    assert "nobody guards it" in unguarded
    with told_by_a_server(v0_2_0=GOOD) as url:
        guarding(url).look()
    assert float(store.model_tags(NAME)[GUARDED]) == pytest.approx(time.time(), abs=60)
    [guarded] = say_bakes(store, NAME, sync(store, NAME).entries)
    assert "nobody guards it" not in guarded


def test_a_guard_that_can_read_no_server_does_not_say_that_it_looks(store: Store):
    promote_baking(store)
    with told_by_a_server() as empty:
        Guard(NAME, Servers(("http://127.0.0.1:1", empty)), cache_folder(), Store).look()
    assert GUARDED not in store.model_tags(NAME)


def bake_canary(store: Store, tmp_path: Path, duration_s: float) -> None:
    """0.3.0 bakes as the canary in the place of 0.2.0."""
    moved(store, "0.2.0", "canary", share=5.0)
    moved(store, "0.3.0", "canary", share=5.0, bake=Bake(duration_s, ALARMS))


def test_a_canarys_roll_back_leaves_no_canary_and_is_told_so(store: Store, tmp_path: Path):
    bake_canary(store, tmp_path, 1800.0)
    with told_by_a_server(v0_3_0=BAD) as url:
        other = guarding(url)
        other.look()
        event = guard_to_the_end(url)
        [seen] = other.look()
    assert (event.kind, seen.kind) == ("rolled back", "rolled back")
    assert event.text.startswith("canary: 0.3.0 → none, as saturation.steer>0.5")
    assert seen.text.startswith("canary: 0.3.0 → none, by ")
    assert store.holders(NAME) == {"production": "0.1.0"}


def test_a_canary_that_goes_to_production_bakes_no_more(store: Store, tmp_path: Path):
    bake_canary(store, tmp_path, 1800.0)
    with told_by_a_server(v0_3_0=GOOD) as url:
        guard = guarding(url)
        guard.look()
        move = moved(store, "0.3.0")
        [gone] = guard.look()
        assert guard.look() == []
    assert move.cut_short is not None
    assert move.cut_short.startswith("0.3.0 had baked in canary for ")
    assert (gone.kind, "0.3.0 left canary, by " in gone.text) == ("ended", True)


def test_what_goes_wrong_with_one_bake_does_not_keep_it_from_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    moved(store, "0.1.0", "staging")
    moved(store, "0.3.0", "staging", bake=Bake(0.1, ALARMS))
    promote_baking(store)

    def refuse(*_: object) -> None:
        raise RefusedError("not now")

    with told_by_a_server(v0_2_0=BAD, v0_3_0=GOOD) as url:
        guard = guarding(url)
        with monkeypatch.context() as patch:
            patch.setattr("registry.moves.guard.commit", refuse)
            looks = [[event.kind for event in guard.look()] for _ in range(3)]
        assert [event.kind for event in guard.look()] == ["ended"]
    assert looks[-1] == ["stuck", "rolled back"]
    assert store.holders(NAME) == {"production": "0.1.0", "staging": "0.3.0"}


@pytest.mark.parametrize("how", ["force", "allow_breaking"])
def test_a_version_with_another_contract_does_not_bake_however_it_is_let_pass(store: Store, tmp_path: Path, how: str):
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    options = MoveOptions(bake=Bake(1800.0, ALARMS), force=how == "force", reason="the cars are ready")
    gates = promotion_gates("staging", how == "allow_breaking")
    with pytest.raises(RefusedError, match=r"1\.0\.0 can't bake: its contract is another one"):
        promote(store, parse_reference(f"{NAME}@1.0.0"), "production", cache_folder(), options, gates)
    assert store.holders(NAME) == {"production": "0.1.0"}


@pytest.mark.parametrize(
    "write",
    ["set_model_tags", "append", "begin_writing", "set_alias", "mirror_stages", "end_writing", "mark_applied"],
)
@WHEN
def test_a_guard_that_is_killed_at_any_write_goes_on_and_rolls_back_once(store: Store, write: str, after: bool):
    promote_baking(store)
    with told_by_a_server(v0_2_0=BAD) as url:
        killed_at(f"registry.store.store.Store.{write}", after, guard_to_the_end, url)
        guard_to_the_end(url)
    state = sync(store, NAME)
    assert state.holder("production") == store.holders(NAME)["production"] == "0.1.0"
    assert kinds(store) == ["promote", "promote", "rollback"]
    assert problems(state.entries) == []
    assert {v.semver: v.stage for v in store.versions(NAME)}["0.1.0"] == "production"


@WHEN
def test_a_guard_that_is_killed_as_it_ends_a_bake_ends_it_once(store: Store, after: bool):
    promote_baking(store, duration_s=0.1)
    with told_by_a_server(v0_2_0=GOOD) as url:
        killed_at("registry.store.store.Store.append", after, guard_to_the_end, url)
        guard_to_the_end(url)
    assert kinds(store) == ["promote", "promote", "baked"]
    assert problems(sync(store, NAME).entries) == []


@pytest.mark.parametrize(("growth", "last"), [(BAD, "rollback"), (GOOD, "baked")], ids=["rollback", "baked"])
def test_two_guards_write_one_entry(store: Store, growth: Growth, last: str):
    promote_baking(store, duration_s=1800.0 if last == "rollback" else 0.1)
    with told_by_a_server(v0_2_0=growth) as url:
        guards = [started(guard_to_the_end, url) for _ in range(2)]
        for guard in guards:
            guard.join()
    assert [guard.exitcode for guard in guards] == [0, 0]
    assert kinds(store) == ["promote", "promote", last]
    assert problems(sync(store, NAME).entries) == []


def test_a_bake_needs_a_version_to_roll_back_to_and_a_move(store: Store, tmp_path: Path):
    with pytest.raises(RefusedError, match="holds production already: a bake begins with the move"):
        promote_baking(store, "0.1.0")
    archive(store, parse_reference(f"{NAME}@0.1.0"), MoveOptions(force=True, reason="none is left"))
    with pytest.raises(RefusedError, match="can't bake without a version to roll back to"):
        promote_baking(store)
