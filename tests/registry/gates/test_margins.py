"""A policy's own margins, in MLflow's registry."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, cache_folder, registered

from registry.moves.judge import promotion_gates
from registry.moves.promotion import promote
from registry.moves.sync import sync
from registry.moves.terms import MoveOptions
from registry.rules.reference import parse_reference
from registry.store.evidence import find_evidence
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def test_a_policys_own_margins_are_judged_by_and_entered_into_the_journal(mlflow_home: Path, tmp_path: Path):
    store = Store()
    registered(store, tmp_path, "0.1.0")
    mlflow.MlflowClient().set_registered_model_tag(NAME, "gate.driving.margin", "0.02")
    asked = MoveOptions(force=True, reason="no evidence yet")
    reference = parse_reference(f"{NAME}@0.1.0")
    moved = promote(store, reference, "production", cache_folder(), asked, promotion_gates("production"))
    assert moved.shortfalls[-1].endswith("--log --episodes 149")
    assert sync(store, NAME).entries[-1].move.evidence[0] == "margins: driving 0.02, reward 0.05"
    assert "evidence" not in mlflow.MlflowClient().get_model_version(NAME, "1").tags


def test_how_often_an_artifact_was_evaluated_is_counted(mlflow_home: Path):
    digest = "sha256:" + "1" * 64
    for _ in range(3):
        with mlflow.start_run():
            mlflow.set_tags({"carla.step": "evaluate", "digest": digest})
    found = find_evidence(digest)
    assert found is not None
    assert found.evaluations == 3
