"""A policy that asks for a shadow: a promotion to production reads what its shadows have logged."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from registry_policies import NAME, cache_folder, registered, to_production

from registry.gates.shadow import DISAGREEMENT_TAG, ROWS_TAG
from registry.moves.judge import promotion_gates
from registry.moves.promotion import promote
from registry.moves.terms import MoveOptions
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import parse_reference
from registry.store.cache import fetch_to_cache
from registry.store.store import Store
from serve.shadow.evidence_log import Finding, log_finding

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def versions(mlflow_home: Path, tmp_path: Path) -> list[PolicyVersion]:
    """0.1.0, which is in production, and 0.2.0."""
    found = registered(Store(), tmp_path, "0.1.0", "0.2.0")
    to_production(Store(), "0.1.0")
    return found


def findings(stage: str = "production") -> list[str]:
    """What the gates say of 0.2.0's shadow, those that did not pass with an exclamation mark."""
    reference = parse_reference(f"{NAME}@0.2.0")
    moved = promote(Store(), reference, stage, cache_folder(), MoveOptions(dry_run=True), promotion_gates(stage))
    return [("! " if text in moved.shortfalls else "") + text for text in moved.findings if text.startswith("shadow:")]


def shadowed(version: PolicyVersion, champion: PolicyVersion, rows: int, disagreements: int) -> None:
    """Logs that a version was a shadow."""
    card = fetch_to_cache(Store(), version, cache_folder()).card
    counts = {"rows": rows, "disagreements": disagreements, "skipped": 0}
    log_finding(Finding(card, version.digest, champion.digest, champion.semver, {"share": 1.0}, counts, {}, None))


def test_only_a_policy_with_the_tags_is_asked_and_only_for_production(versions: list[PolicyVersion]):
    assert findings() == []
    mlflow.MlflowClient().set_registered_model_tag(NAME, ROWS_TAG, "100")
    [text] = findings()
    assert text.startswith(f"! shadow: {NAME}@0.2.0 has not run as a shadow of {NAME}@0.1.0: ")
    assert findings("staging") == []


def test_enough_rows_beside_the_version_that_is_in_production_pass(versions: list[PolicyVersion]):
    client = mlflow.MlflowClient()
    client.set_registered_model_tag(NAME, ROWS_TAG, "100")
    client.set_registered_model_tag(NAME, DISAGREEMENT_TAG, "0.05")
    old, new = versions
    shadowed(new, new, 1000, 0)  # beside another champion
    shadowed(new, old, 60, 6)
    enough, agrees = findings()
    assert enough.startswith(f"! shadow: 60 rows compared with {NAME}@0.1.0's in runs:/")
    assert agrees == f"! shadow: 10.000% of 60 rows disagree with {NAME}@0.1.0, 5.000% allowed"
    shadowed(new, old, 140, 2)
    assert [text.startswith("shadow: ") for text in findings()] == [True, True]
