"""A canary in MLflow's real registry: promoted with a share, changed, ended, and what people do to it in the UI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, at_another_rate, cache_folder, changed, moved, registered, to_production, to_stage

from carla_mlflow.errors import RefusedError
from registry.moves.judge import promotion_gates
from registry.moves.promotion import archive, promote, rollback
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.moves.terms import GateResult, MoveOptions, MoveResult
from registry.rules.chain import problems
from registry.rules.reference import parse_reference
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    """Three versions, of which 0.1.0 is in production."""
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", "0.3.0", production="0.1.0")
    return store


def no_gates(version: str, to: str, **asked: object) -> MoveResult:
    """A move whose gates find nothing: they have tests of their own."""
    return moved(Store(), version, to, **asked)


def refuses_to_judge(*_: object) -> GateResult:
    pytest.fail("the gates were evaluated")


def shown(store: Store) -> tuple[str | None, str | None]:
    """The version that holds canary in MLflow, and its share as the tag has it."""
    return store.holders(NAME).get("canary"), store.model_tags(NAME).get("canary_share")


def last_moves(store: Store, count: int = 1) -> list[tuple[str, str, str, float | None]]:
    moves = [entry.move for entry in sync(store, NAME).entries][-count:]
    return [(move.kind, move.version, move.to, move.canary_share) for move in moves]


def test_a_canary_has_an_alias_a_share_and_an_entry_and_no_legacy_stage(store: Store):
    moved = no_gates("0.2.0", "canary", share=5.0, reason="brakes earlier")
    assert (moved.to, moved.displaced, moved.share, moved.version.stage) == ("canary", None, 5.0, "candidate")
    assert shown(store) == ("0.2.0", "5")
    assert last_moves(store) == [("promote", "0.2.0", "canary", 5.0)]
    assert mlflow.MlflowClient().get_model_version(NAME, "2").current_stage == "None"
    assert store.resolve(parse_reference(f"{NAME}@canary")).semver == "0.2.0"
    canary = store.canary(NAME)
    assert canary is not None
    assert (canary.version.semver, canary.share, canary.is_vetted) == ("0.2.0", 5.0, True)


def test_another_share_is_a_move_and_only_a_larger_one_asks_the_gates_again(store: Store):
    no_gates("0.2.0", "canary", share=5.0)
    reference = parse_reference(f"{NAME}@0.2.0")
    promote(store, reference, "canary", cache_folder(), MoveOptions(share=0.5), refuses_to_judge)
    assert shown(store) == ("0.2.0", "0.5")
    no_gates("0.2.0", "canary", share=50.0)
    assert shown(store) == ("0.2.0", "50")
    shares = [5.0, 0.5, 50.0]
    assert last_moves(store, 3) == [("promote", "0.2.0", "canary", share) for share in shares]
    again = promote(store, reference, "canary", cache_folder(), MoveOptions(share=50.0), refuses_to_judge)
    assert again.entry is None
    assert problems(sync(store, NAME).entries) == []


def test_a_canary_that_replaces_another_brings_its_own_share(store: Store):
    no_gates("0.2.0", "canary", share=50.0)
    assert no_gates("0.3.0", "canary", share=1.0).displaced == "0.2.0"
    assert shown(store) == ("0.3.0", "1")
    no_gates("0.2.0", "canary", share=20.0, expect="0.3.0")
    assert shown(store) == ("0.2.0", "20")
    with pytest.raises(RefusedError, match=r"canary is held by 0\.2\.0, not by none"):
        no_gates("0.3.0", "canary", share=20.0, expect="none")


@pytest.mark.parametrize("how", ["production", "rollback", "archive"])
def test_a_canary_ends_by_production_by_a_rollback_and_by_archiving(store: Store, how: str):
    no_gates("0.2.0", "canary", share=5.0)
    if how == "production":
        no_gates("0.2.0", "production")
    elif how == "archive":
        archive(store, parse_reference(f"{NAME}@0.2.0"), MoveOptions())
    else:
        ended = rollback(store, NAME, "canary", cache_folder(), MoveOptions(reason="brakes late"), refuses_to_judge)
        assert last_moves(store) == [("rollback", "0.2.0", "left canary", None)]
        assert ended.version.aliases == ()
    assert shown(store) == (None, None)
    assert store.canary(NAME) is None
    assert store.holders(NAME) == {"production": "0.2.0" if how == "production" else "0.1.0"}
    with pytest.raises(RefusedError, match="there is no canary"):
        rollback(store, NAME, "canary", cache_folder(), MoveOptions(), refuses_to_judge)


def test_what_is_no_canary_is_refused_in_words(store: Store):
    with pytest.raises(RefusedError, match="--share PERCENT"):
        no_gates("0.2.0", "canary")
    with pytest.raises(RefusedError, match="is for --to canary"):
        no_gates("0.2.0", "staging", share=5.0)
    with pytest.raises(RefusedError, match="answers all episodes already"):
        no_gates("0.1.0", "canary", share=5.0)
    mlflow.MlflowClient().delete_registered_model_alias(NAME, "production")
    with pytest.raises(RefusedError, match="no version is in production"):
        no_gates("0.2.0", "canary", share=5.0)


def test_a_canary_passes_the_gates_of_production(store: Store, tmp_path: Path):
    register(store, changed(tmp_path, "1.0.0", action=at_another_rate(20.0)), cache_folder())
    reference, options, gates = parse_reference(f"{NAME}@1.0.0"), MoveOptions(share=5.0), promotion_gates("canary")
    with pytest.raises(RefusedError) as refused:
        promote(store, reference, "canary", cache_folder(), options, gates)
    assert "action.rate_hz: 10.0 → 20.0" in str(refused.value)
    assert "evidence: " in str(refused.value)
    assert shown(store) == (None, None)


def test_a_canary_is_protected_as_every_alias(store: Store, monkeypatch: pytest.MonkeyPatch):
    no_gates("0.2.0", "canary", share=5.0)
    mlflow.MlflowClient().set_registered_model_tag(NAME, "protected.canary", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve")
    with pytest.raises(RefusedError, match="canary is protected: only ann may move it, and you are eve"):
        no_gates("0.2.0", "canary", share=50.0)
    with pytest.raises(RefusedError, match="canary is protected"):
        rollback(store, NAME, "canary", cache_folder(), MoveOptions(), refuses_to_judge)


def test_an_alias_set_in_the_ui_is_journalled_with_no_share_and_no_gates(store: Store):
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(NAME, "canary", "2")
    assert last_moves(store) == [("seen", "0.2.0", "canary", 0.0)]
    assert shown(store) == ("0.2.0", None)
    canary = store.canary(NAME)
    assert canary is not None
    assert (canary.share, canary.is_vetted) == (None, False)
    client.delete_registered_model_alias(NAME, "canary")
    assert last_moves(store) == [("seen", "0.2.0", "left canary", None)]


def test_a_share_edited_in_the_ui_is_journalled_and_keeps_the_gates_that_were_passed(store: Store):
    no_gates("0.2.0", "canary", share=5.0)
    mlflow.MlflowClient().set_registered_model_tag(NAME, "canary_share", "30")
    assert last_moves(store) == [("seen", "0.2.0", "canary", 30.0)]
    canary = store.canary(NAME)
    assert canary is not None
    assert (canary.share, canary.is_vetted) == (30.0, True)
    mlflow.MlflowClient().set_registered_model_tag(NAME, "canary_share", "a lot")
    assert last_moves(store) == [("seen", "0.2.0", "canary", 0.0)]


def test_an_alias_moved_in_the_ui_does_not_take_over_the_share_of_the_canary_before(store: Store):
    no_gates("0.2.0", "canary", share=50.0)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "canary", "3")
    canary = store.canary(NAME)
    assert canary is not None
    assert not canary.is_vetted  # so a server refuses it even before anybody looks
    assert last_moves(store) == [("seen", "0.3.0", "canary", 0.0)]
    assert shown(store) == ("0.3.0", "0")


def test_an_alias_taken_away_in_the_ui_takes_its_share_along(store: Store):
    no_gates("0.2.0", "canary", share=50.0)
    client = mlflow.MlflowClient()
    client.delete_registered_model_alias(NAME, "canary")
    assert last_moves(store) == [("seen", "0.2.0", "left canary", None)]
    assert shown(store) == (None, None)
    client.set_registered_model_alias(NAME, "canary", "3")
    canary = store.canary(NAME)
    assert canary is not None
    assert canary.share is None  # so a server says that it has none, and refuses nothing


def test_the_gates_of_a_canary_set_in_the_ui_are_asked_when_it_gets_a_share(store: Store):
    mlflow.MlflowClient().set_registered_model_alias(NAME, "canary", "2")
    asked: list[str] = []

    def gates(*given: object) -> GateResult:
        asked.append(given[2].semver)  # type: ignore[attr-defined]
        return GateResult()

    promote(store, parse_reference(f"{NAME}@0.2.0"), "canary", cache_folder(), MoveOptions(share=0.0), gates)
    assert asked == ["0.2.0"]
    assert shown(store) == ("0.2.0", "0")


def test_a_version_in_staging_that_is_canary_too_keeps_either_alias_without_the_other(store: Store):
    to_stage(store, f"{NAME}@0.2.0", "staging")
    no_gates("0.2.0", "canary", share=5.0)
    client = mlflow.MlflowClient()
    assert client.get_model_version(NAME, "2").current_stage == "Staging"
    client.delete_registered_model_alias(NAME, "staging")
    assert last_moves(store) == [("seen", "0.2.0", "left staging", None)]
    assert shown(store) == ("0.2.0", "5")


def test_production_moved_to_the_canary_in_the_ui_ends_it(store: Store):
    no_gates("0.2.0", "canary", share=5.0)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "production", "2")
    sync(store, NAME)
    assert (store.holders(NAME), shown(store)) == ({"production": "0.2.0"}, (None, None))


class Slow(Store):
    """A registry's client that is stopped before its first write of an alias, while another canary is promoted."""

    has_waited = False

    def set_alias(self, *arguments) -> None:
        if not self.has_waited:
            self.has_waited = True
            no_gates("0.3.0", "canary", share=1.0)
        super().set_alias(*arguments)


def test_an_overtaken_process_takes_back_alias_and_share(store: Store):
    reference, options = parse_reference(f"{NAME}@0.2.0"), MoveOptions(share=50.0)
    promote(Slow(), reference, "canary", cache_folder(), options, lambda *_: GateResult())
    state = sync(store, NAME)
    assert shown(store) == ("0.3.0", "1")
    assert (state.holder("canary"), state.holders.share, state.holders.is_vetted) == ("0.3.0", 1.0, True)
    assert last_moves(store, 2) == [("promote", "0.2.0", "canary", 50.0), ("promote", "0.3.0", "canary", 1.0)]


class Watched(Store):
    """A registry's client that notes what a server would find before and after each of its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool] | None] = []

    def _look(self) -> None:
        canary = Store().canary(NAME)
        self.seen.append(None if canary is None else (canary.version.semver, canary.is_vetted))


def _noting(name: str) -> Callable[..., object]:
    def write(self: Watched, *arguments: object) -> object:
        self._look()
        written = getattr(Store, name)(self, *arguments)
        self._look()
        return written

    return write


for _write in ("append", "set_alias", "delete_alias", "set_share", "delete_share", "mark_applied"):
    setattr(Watched, _write, _noting(_write))

REPLACED, ENDED = ("0.3.0", True), None


@pytest.mark.parametrize(
    ("version", "to", "share", "after"),
    [
        ("0.3.0", "canary", 1.0, REPLACED),
        ("0.3.0", "canary", 90.0, REPLACED),
        ("0.2.0", "production", None, ENDED),
        (None, "rolled back", None, ENDED),
        ("0.2.0", "archived", None, ENDED),
    ],
)
def test_whatever_a_server_finds_in_the_midst_of_a_move_has_passed_its_gates(store: Store, version, to, share, after):
    no_gates("0.2.0", "canary", share=50.0)
    watched = Watched()
    reference, options = parse_reference(f"{NAME}@{version}"), MoveOptions(share=share)
    if to == "rolled back":
        rollback(watched, NAME, "canary", cache_folder(), options, refuses_to_judge)
    elif to == "archived":
        archive(watched, reference, options)
    else:
        promote(watched, reference, to, cache_folder(), options, lambda *_: GateResult())
    found = list(dict.fromkeys(watched.seen))
    assert found == [("0.2.0", True), after]


def test_a_canary_put_back_in_the_ui_after_another_replaced_it_counts_as_without_gates(store: Store):
    no_gates("0.2.0", "canary", share=50.0)
    no_gates("0.3.0", "canary", share=50.0)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "canary", "2")  # the move to 0.3.0 was carried out
    canary = store.canary(NAME)
    assert canary is not None
    assert not canary.is_vetted


def test_a_canary_that_is_replaced_between_two_reads_is_looked_up_again(store: Store):
    no_gates("0.2.0", "canary", share=50.0)

    class Interrupted(Store):
        has_waited = False

        def journal(self, *arguments):
            if not self.has_waited:
                self.has_waited = True
                no_gates("0.3.0", "canary", share=1.0)
            return super().journal(*arguments)

    canary = Interrupted().canary(NAME)
    assert canary is not None
    assert (canary.version.semver, canary.share, canary.is_vetted) == ("0.3.0", 1.0, True)


def test_production_goes_on_without_the_canary(store: Store):
    no_gates("0.2.0", "canary", share=5.0)
    to_production(store, "0.3.0")
    assert store.holders(NAME) == {"production": "0.3.0", "canary": "0.2.0"}
    rollback(store, NAME, "production", cache_folder(), MoveOptions(), lambda *_: GateResult())
    assert shown(store) == ("0.2.0", "5")
