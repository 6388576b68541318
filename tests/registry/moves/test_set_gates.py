"""Settings of gates are journalled first, and whoever is killed then, they are set by whoever comes next."""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import killed_at
from registry_policies import NAME, registered

from registry.moves.set_gates import journalled_settings, set_gates
from registry.moves.sync import sync
from registry.rules.chain import problems
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own
TAG = "gate.driving.margin"


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, "0.1.0")
    set_gates(store, NAME, {TAG: "0.1"}, "")
    return store


def set_it() -> None:
    set_gates(Store(), NAME, {TAG: "0.02"}, "a fleet of ten")


@pytest.mark.parametrize("write", ["append", "set_model_tags", "mark_applied"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_setting_is_set_or_never_was(store: Store, write: str, after: bool):
    killed_at(f"registry.store.store.Store.{write}", after, set_it)
    state = sync(store, NAME)
    wanted = "0.1" if (write, after) == ("append", False) else "0.02"
    assert store.model_tags(NAME)[TAG] == journalled_settings(state)[TAG] == wanted
    assert all(entry.applied for entry in state.entries[-1:])
    assert problems(state.entries) == []
