"""Registering: the version that the changes demand, once for each artifact, whoever registers at the same moment."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import mlflow
import msgspec
import pytest
from registry_policies import NAME, at_another_rate, cache_folder, changed, example, steering

from carla_mlflow.contract.field_card import Seen
from carla_mlflow.errors import IntegrityError, RefusedError
from registry.moves.registration import register
from registry.moves.sync import sync
from registry.rules.changes import contract_changes, other_changes
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def store(mlflow_home: Path) -> Store:
    return Store()


def auto(store: Store, source: str) -> tuple[str, bool]:
    version, new = register(store, source, cache_folder(), bump="auto")
    return version.semver, new


def test_a_bump_is_the_smallest_step_that_the_changes_demand(store: Store, tmp_path: Path):
    assert auto(store, changed(tmp_path, "0.4.0")) == ("0.4.0", True)
    assert auto(store, changed(tmp_path, "0.4.0", description="other words")) == ("0.4.1", True)
    assert auto(store, changed(tmp_path, "9.9.9", action=at_another_rate(20.0))) == ("1.0.0", True)
    assert [version.semver for version in store.versions(NAME)] == ["0.4.0", "0.4.1", "1.0.0"]


def test_other_weights_demand_a_minor_step(store: Store, tmp_path: Path):
    second = steering(tmp_path, "1.2.4", 0.5)
    assert auto(store, changed(tmp_path, "1.2.3")) == ("1.2.3", True)
    with pytest.raises(
        RefusedError,
        match=r"1\.2\.4 is too small a version step from 1\.2\.3: a minor step is required, as the weights",
    ):
        register(store, second, cache_folder())
    with pytest.raises(RefusedError, match=r"--bump patch is too small a version step"):
        register(store, second, cache_folder(), bump="patch")
    assert auto(store, second) == ("1.3.0", True)


def test_the_same_artifact_is_the_same_version_whatever_its_card_calls_it(store: Store, tmp_path: Path):
    first = auto(store, changed(tmp_path, "0.4.0", description="one"))
    assert auto(store, changed(tmp_path, "0.4.0", description="two")) == ("0.4.1", True)
    assert auto(store, changed(tmp_path, "7.0.0", description="one")) == (first[0], False)
    assert len(store.versions(NAME)) == 2


def test_raw_bounds_without_a_meaning_are_warned_of_and_stating_it_is_a_major_step(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    action = example().card.action
    wide = msgspec.structs.replace(action, raw={**action.raw, "acceleration": (-1.0, 2.0)})
    assert auto(store, changed(tmp_path, "0.4.0", action=wide)) == ("0.4.0", True)
    assert "warning: action.raw.acceleration has the bounds [-1, 2], not [-1, 1]" in capsys.readouterr().err
    stated = msgspec.structs.replace(wide, full_throttle=1.0, full_brake=-1.0)
    path = changed(tmp_path, "0.5.0", action=stated)
    with pytest.raises(RefusedError, match=r"a major step is required.*action\.full_throttle: none → 1\.0"):
        register(store, path, cache_folder())
    assert auto(store, path) == ("1.0.0", True)
    assert "warning" not in capsys.readouterr().err


def test_a_smaller_step_than_the_contract_demands_is_refused_in_words(store: Store, tmp_path: Path):
    register(store, changed(tmp_path, "1.0.0"), cache_folder())
    with pytest.raises(
        RefusedError,
        match=r"1\.1\.0 is too small a version step from 1\.0\.0: a major step is required.*rate_hz: 10\.0 → 20",
    ):
        register(store, changed(tmp_path, "1.1.0", action=at_another_rate(20.0)), cache_folder())
    version, _ = register(store, changed(tmp_path, "2.0.0", action=at_another_rate(20.0)), cache_folder())
    assert version.semver == "2.0.0"
    older, _ = register(store, changed(tmp_path, "1.0.1", description="a backport"), cache_folder())
    assert older.semver == "1.0.1"


def test_a_card_that_tells_other_weights_than_its_graph_has_is_not_registered(store: Store, tmp_path: Path):
    with pytest.raises(IntegrityError, match="weights: the card says sha256:0000"):
        register(store, changed(tmp_path, "1.0.0", weights="sha256:" + "0" * 64), cache_folder())
    assert store.names() == []


def test_a_pre_release_opens_no_way_to_another_contract_under_a_patch(store: Store, tmp_path: Path):
    register(store, changed(tmp_path, "1.0.0"), cache_folder())
    register(store, changed(tmp_path, "1.0.1-rc.1", description="announced"), cache_folder())
    other = at_another_rate(20.0)
    with pytest.raises(
        RefusedError, match=r"1\.0\.1 is too small a version step from 1\.0\.0: a major step is required"
    ):
        register(store, changed(tmp_path, "1.0.1", action=other), cache_folder())
    with pytest.raises(
        RefusedError, match=r"1\.0\.0-rc\.9 is too small a version step before 1\.0\.1-rc\.1: a major step is required"
    ):
        register(store, changed(tmp_path, "1.0.0-rc.9", action=other), cache_folder())
    assert auto(store, changed(tmp_path, "1.0.1", description="released")) == ("1.0.1", True)


def test_the_fallback_and_what_training_saw_are_changes_outside_the_contract():
    card, replace = example().card, msgspec.structs.replace
    speed = replace(card.observation["speed"], seen=Seen(0.0, 9.5))
    action = replace(card.action, fallback={**card.action.fallback, "brake": 0.5})
    new = replace(card, observation={**card.observation, "speed": speed}, action=action)
    assert contract_changes(card, new) == []
    assert [str(change) for change in other_changes(card, new)] == [
        "observation.speed.seen: none → {'low': 0.0, 'high': 9.5}",
        "action.fallback.brake: 1.0 → 0.5",
    ]


def test_the_order_of_actions_is_part_of_the_contract():
    card = example().card
    turned = msgspec.structs.replace(card.action, raw=dict(reversed(card.action.raw.items())))
    changes = contract_changes(card, msgspec.structs.replace(card, action=turned))
    assert [change.place for change in changes] == ["action.raw order"]


def test_a_claim_that_a_dead_process_left_is_taken_up_by_the_same_artifact_only(store: Store, tmp_path: Path):
    source = changed(tmp_path, "0.4.0")
    create = Store.create_version

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    Store.create_version = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(KeyboardInterrupt):
            register(store, source, cache_folder())
    finally:
        Store.create_version = create  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=r"0\.4\.0 is taken by another artifact"):
        register(store, changed(tmp_path, "0.4.0", description="another"), cache_folder())
    assert auto(store, changed(tmp_path, "0.4.0", description="another")) == ("0.4.1", True)
    assert auto(store, source) == ("0.4.0", True)


FORKS = multiprocessing.get_context("forkserver")
"""Processes that have imported what registering takes, and have no database open."""
FORKS.set_forkserver_preload(["registry.moves.registration"])


def register_at_once(environment: dict[str, str], source: str, all_are_here: Barrier) -> None:
    os.environ.clear()  # the forkserver's
    os.environ.update(environment)
    all_are_here.wait()
    register(Store(), source, cache_folder(), bump="auto")


@pytest.mark.slow
def test_processes_that_register_at_the_same_moment_get_one_version_for_each_artifact(
    mlflow_home: Path, tmp_path: Path
):
    sources = [changed(tmp_path, "0.1.0", description=str(number // 2)) for number in range(8)]
    here = FORKS.Barrier(len(sources))
    running = [FORKS.Process(target=register_at_once, args=(dict(os.environ), source, here)) for source in sources]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 8
    store = Store()
    assert sorted(v.semver for v in store.versions(NAME)) == ["0.1.0", "0.1.1", "0.1.2", "0.1.3"]
    numbers = [v.number for v in store.versions(NAME)]
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")) == len(numbers)  # nothing left behind
    assert [entry.move.version for entry in sync(store, NAME).entries] == ["0.1.0", "0.1.1", "0.1.2", "0.1.3"]
